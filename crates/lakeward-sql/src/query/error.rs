//! What can go wrong with a query, in words for the person who wrote it.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

/// Why there is no answer, or no whole one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// It cannot be understood, or names what is not there: change the query.
    #[error("{0}")]
    Wrong(String),
    /// It would change something: queries only read.
    #[error("{0}")]
    NotReadOnly(String),
    /// It needs more memory than it may have: filter more, or give it more.
    #[error("{0}")]
    Memory(String),
    /// The values do not allow it (a text that is no number, a division by
    /// zero), or a file is not what it should be.
    #[error("{0}")]
    Data(String),
    /// The lake cannot be read now.
    #[error("{0}")]
    Unavailable(String),
    /// A bug of ours or of the query engine.
    #[error("{0}")]
    Internal(String),
}

impl QueryError {
    pub(super) fn unknown(what: &str, name: &str, known: &[String]) -> Self {
        let mut message = format!("there is no {what} {name}");
        if let Some(near) = nearest(name, known) {
            message += &format!("; did you mean {near}?");
        } else if !known.is_empty() {
            message += &format!("; there {} {}", if known.len() == 1 { "is" } else { "are" }, listed(known));
        }
        Self::Wrong(message)
    }
}

/// The known name that `name` was perhaps meant to be.
fn nearest<'k>(name: &str, known: &'k [String]) -> Option<&'k str> {
    let lower = name.to_lowercase();
    let alike = |known: &str| strsim::jaro_winkler(&lower, &known.to_lowercase());
    let best = known.iter().map(|known| (alike(known), known.as_str()));
    best.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(alike, _)| *alike > 0.8).map(|(_, name)| name)
}

/// The first names, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        use DataFusionError as E;
        match error {
            E::Context(_, inner) | E::Diagnostic(_, inner) => Self::from(*inner),
            E::Shared(inner) => of_shared(&inner),
            E::Collection(mut all) if !all.is_empty() => Self::from(all.swap_remove(0)),
            E::ExecutionJoin(error) => Self::Internal(error.to_string()),
            other => of_shared(&other),
        }
    }
}

/// The same for an error that is not ours to take apart.
fn of_shared(error: &DataFusionError) -> QueryError {
    use DataFusionError as E;
    match error {
        E::Context(_, inner) | E::Diagnostic(_, inner) => of_shared(inner),
        E::Shared(inner) => of_shared(inner),
        E::Collection(all) if !all.is_empty() => of_shared(&all[0]),
        E::SQL(error, _) => QueryError::Wrong(syntax(&error.to_string())),
        E::SchemaError(error, _) => of_schema(error),
        E::Plan(message) if message.contains("disallowed") || message.contains("not supported: DDL") => {
            QueryError::NotReadOnly(String::from("a query only reads: SELECT, WITH, VALUES or EXPLAIN"))
        }
        E::Plan(message) | E::NotImplemented(message) | E::Configuration(message) => {
            QueryError::Wrong(clean(message))
        }
        E::ResourcesExhausted(_) => QueryError::Memory(String::from(
            "the query needs more memory than it may have: filter more rows out, order or group by less, \
             or allow more",
        )),
        E::ObjectStore(error) => of_store(error),
        E::ArrowError(error, _) => QueryError::Data(clean(&error.to_string())),
        E::ParquetError(error) => of_source(error.as_ref()),
        E::IoError(error) => QueryError::Unavailable(error.to_string()),
        E::External(error) => of_source(error.as_ref()),
        E::Execution(message) => QueryError::Data(clean(message)),
        other => QueryError::Internal(clean(&other.to_string())),
    }
}

/// What an error of a library wraps.
fn of_source(error: &(dyn std::error::Error + 'static)) -> QueryError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<object_store::Error>() {
            return of_store(error);
        }
        if let Some(error) = error.downcast_ref::<DataFusionError>() {
            return of_shared(error);
        }
        if let Some(error) = error.downcast_ref::<QueryError>() {
            return error.clone();
        }
        cause = error.source();
    }
    of_text(&error.to_string())
}

/// An error of which only the text is left: the Parquet reader makes one of
/// what the store said of a footer.
fn of_text(text: &str) -> QueryError {
    if !text.contains("Object Store error: ") {
        return QueryError::Data(clean(text));
    }
    let file = text.split_once("for file ").and_then(|(_, rest)| rest.split_once(": "));
    match file {
        Some((file, said)) if said.contains("not found") => missing(file),
        Some((file, said)) => QueryError::Unavailable(format!("{file} cannot be read: {}", clean(said))),
        None => QueryError::Unavailable(format!("the lake cannot be read: {}", clean(text))),
    }
}

fn missing(file: &str) -> QueryError {
    QueryError::Unavailable(format!(
        "the ledger says that {file} was delivered, but it is not there; `lakeward audit` tells more"
    ))
}

fn of_store(error: &object_store::Error) -> QueryError {
    match error {
        object_store::Error::NotFound { path, .. } => missing(path),
        other => QueryError::Unavailable(format!("the lake cannot be read: {other}")),
    }
}

fn of_schema(error: &SchemaError) -> QueryError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut known: Vec<String> = valid_fields.iter().map(|field| field.name.clone()).collect();
            known.dedup();
            if known.is_empty() {
                return QueryError::Wrong(format!(
                    "there is no column {}: nothing was delivered to the table yet",
                    field.name
                ));
            }
            QueryError::unknown("column", &field.name, &known)
        }
        SchemaError::AmbiguousReference { field } => QueryError::Wrong(format!(
            "{} is a column of several tables; say which one: table.{}",
            field.name, field.name
        )),
        other => QueryError::Wrong(clean(&other.to_string())),
    }
}

fn syntax(message: &str) -> String {
    let message = clean(message);
    let message = message.strip_prefix("sql parser error: ").unwrap_or(&message);
    format!("SQL syntax: {message}")
}

/// The message without the prefixes and the advice that are about DataFusion.
fn clean(message: &str) -> String {
    const PREFIXES: [&str; 13] = [
        "Object Store error: ",
        "DataFusion error: ",
        "Error during planning: ",
        "Execution error: ",
        "Optimizer rule 'simplify_expressions' failed",
        "Arrow error: ",
        "Parquet error: ",
        "External error: ",
        "External: ",
        "Schema error: ",
        "This feature is not implemented: ",
        "SQL error: ",
        "caused by",
    ];
    let mut rest = message.split("\n\nbacktrace").next().unwrap_or(message).trim();
    while let Some(less) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = less.trim_start();
    }
    rest.trim_end().to_string()
}
