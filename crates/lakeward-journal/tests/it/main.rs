//! Tests of the journal through its public interface.

mod appends;
mod fsck;
mod kill;
mod model;
mod support;
mod torn;
