//! The connectors against real folders, servers and processes.

mod amplitude;
mod clickhouse;
mod functions;
mod glue;
mod kinesis;
mod livestream;
mod local;
mod objects;
mod postgres;
mod s3;
