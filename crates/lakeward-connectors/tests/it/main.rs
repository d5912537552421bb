//! The connectors against real folders, servers and processes.

mod functions;
mod local;
mod s3;
