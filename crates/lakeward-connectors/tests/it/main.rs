//! The connectors against real folders, servers and processes.

mod functions;
mod glue;
mod kinesis;
mod local;
mod objects;
mod s3;
