//! Sources whose records come in slices.

mod spec;

pub use spec::SlicedSpec;
