//! Places in the SQL text and refusals that name them.

use datafusion::sql::sqlparser::ast::Spanned;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Span;
use lakeward_columnar::transform::{Place, TransformError};

/// Where something stands, if the parser kept it.
pub(super) fn place(what: &impl Spanned) -> Option<Place> {
    span_place(what.span())
}

/// Where a span starts.
pub(super) fn span_place(span: Span) -> Option<Place> {
    let start = span.start;
    (start.line > 0).then_some(Place { line: start.line, column: start.column })
}

/// A refusal.
pub(super) fn refuse(place: Option<Place>, message: impl Into<String>) -> TransformError {
    TransformError { message: message.into(), place }
}

/// What the parser says, with its place taken out of the text.
pub(super) fn syntax(error: &ParserError) -> TransformError {
    let (ParserError::TokenizerError(text) | ParserError::ParserError(text)) = error else {
        return refuse(None, "the statement nests too deep; use a subquery in FROM instead");
    };
    let Some((message, at)) = text.rsplit_once(" at Line: ") else {
        return refuse(None, format!("not SQL: {text}"));
    };
    let place = at.split_once(", Column: ").and_then(|(line, column)| {
        let place = Place { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? };
        (place.line > 0).then_some(place)
    });
    refuse(place, format!("not SQL: {message}"))
}

/// The most similar of some names, for "did you mean".
pub(super) fn similar<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    names
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= known.len().max(lower.len()) / 3)
        .min_by_key(|(distance, known)| (*distance, *known))
        .map(|(_, known)| known)
}

/// A text cut to what a person reads.
pub(super) fn short(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= limit {
        return line;
    }
    line.chars().take(limit).chain(['…']).collect()
}
