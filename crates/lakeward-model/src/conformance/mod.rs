//! The suites that every destination and source must pass, and the in-memory
//! and faulty ones that tests use.
