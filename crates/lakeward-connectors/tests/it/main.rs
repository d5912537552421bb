//! The connectors against real folders and real servers.

mod local;
mod s3;
