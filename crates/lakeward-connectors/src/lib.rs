//! Sources and destinations: where batches come from and go to.

pub mod destinations;
