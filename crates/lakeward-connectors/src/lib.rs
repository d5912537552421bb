//! Sources and destinations: where batches come from and go to, and the
//! functions that records go through on their way.

mod aws_credentials;
pub mod destinations;
pub mod functions;
