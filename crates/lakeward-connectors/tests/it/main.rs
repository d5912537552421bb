//! The connectors against real folders, servers and processes.

mod amplitude;
mod functions;
mod glue;
mod kinesis;
mod livestream;
mod local;
mod objects;
mod s3;
