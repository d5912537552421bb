//! SQL on records and on files as a lake has them.

mod answers;
mod folders;
mod formats;
mod lake;
mod reading;
mod refusals;
mod transform;
