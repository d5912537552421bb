//! Faithful fakes of upstreams, for trying a connector without an account and
//! for tests: seeded data that are the same for ever, and the misbehaviours
//! that the real ones are known for.
//!
//! One folder per upstream; what they share is the clock, the draws and the
//! HTTP server. Nothing here is shared with the connectors: a mistake of
//! theirs must not be made here a second time.

pub mod adobe_livestream;
pub mod amplitude;
mod clock;
mod random;
mod serve;

pub use clock::SimulatedClock;
pub use serve::Running;
