//! SQL on records and on the lake.
