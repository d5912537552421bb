//! What the doors that speak AWS's JSON 1.1 protocol share.

pub(crate) mod constraints;
pub(crate) mod door;
pub(crate) mod fault;
pub(crate) mod invocation;
pub(crate) mod scan;
pub(crate) mod tree;
