//! The doors over real sockets, in front of the real engine with a destination
//! in memory: what is sent, and exactly what comes back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connections;
mod delivery;
mod events;
mod harness;
mod kinesis;
mod kinesis_retention;
mod launchdarkly;
mod processors;
mod puts;
mod queries;
mod replays;
mod resharding;
mod retention;
mod slices;
mod streams;
mod subscriptions;
mod xapi;
