//! The front doors: HTTP intake, the Firehose and Kinesis APIs, health and
//! metrics.
//!
//! A request's way through this crate: [`serve`] accepts the connection;
//! `doors` routes to the door; the door lets the caller in (`auth`, `sigv4`),
//! reads the body whole within the memory budget (`body`, `inflate`), cuts it
//! into records (`split`, `firehose::put`, `kinesis::put`) and hands them to
//! [`lakeward_engine::Intake::accept`]. Only this crate knows HTTP statuses.
//!
//! The Firehose API refuses what AWS refuses, so that what works here works
//! there. Public templates exist that only work with other emulators (5 MB
//! buffers with dynamic partitioning and no partition key in the prefix);
//! [`ServerConfig::firehose_strict`] switched off accepts them with a warning.

mod auth;
mod aws;
mod body;
mod config;
mod delivery;
mod doors;
mod events;
mod firehose;
mod inflate;
mod inspect;
mod kinesis;
mod launchdarkly;
mod query;
mod rate;
mod refusal;
mod replay;
mod runs;
mod serve;
mod sigv4;
mod slices;
mod split;
mod xapi;

pub use config::{AuthConfig, KinesisConfig, ServerConfig, ServerLimits, SigV4Key, TlsConfig};
pub use firehose::BucketDestination;
pub use launchdarkly::LaunchDarklyConfig;
pub use query::{Answer, Queries, QueryFailure, QueryFormat};
pub use serve::{Backend, Running, ServeError, serve};
pub use xapi::{XapiConfig, XapiCredential};
