//! The durable, segmented log of records.
