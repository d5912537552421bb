//! Sources, destinations and catalogs: where batches come from and go to, and the
//! functions that records go through on their way.

mod aws_access;
mod aws_credentials;
mod aws_json;
mod aws_signature;
pub mod catalogs;
pub mod destinations;
pub mod functions;
pub mod sources;

pub use aws_access::AwsAccess;
