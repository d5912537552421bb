//! Sources and destinations: where batches come from and go to, and the
//! functions that records go through on their way.

#[allow(dead_code, reason = "the catalog and Kinesis use it next")]
mod aws_access;
mod aws_credentials;
#[allow(dead_code, reason = "the catalog and Kinesis use it next")]
mod aws_json;
mod aws_signature;
pub mod destinations;
pub mod functions;
