//! The front doors: HTTP intake, the Firehose API, health and metrics.
