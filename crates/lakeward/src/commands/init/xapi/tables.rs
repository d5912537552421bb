//! The tables, their columns, and the expressions that these are made of.

/// What is declared beside the extensions: what the mapping reads, with the
/// type that it has for ever; and as JSON what real statements write in more
/// than one way, so that it is never a mismatch.
pub(super) const DECLARED: &[(&str, &str)] = &[
    // Null for what is sent directly, and columns all the same.
    ("_raw", "string"),
    ("_file", "string"),
    ("_etag", "string"),
    ("_line", "int64"),
    ("id", "string"),
    ("timestamp", "timestamptz"),
    ("stored", "timestamptz"),
    // Torus writes an integer.
    ("actor.account.name", "string"),
    ("actor.account.homePage", "string"),
    ("actor.mbox", "string"),
    ("actor.mbox_sha1sum", "string"),
    ("actor.openid", "string"),
    ("actor.member", "json"),
    ("verb.id", "string"),
    ("verb.display", "json"),
    ("object.id", "string"),
    ("object.definition.type", "string"),
    ("object.definition.subType", "string"),
    ("object.definition.name", "json"),
    ("object.definition.description", "json"),
    ("object.definition.extensions", "json"),
    ("object.actor", "json"),
    ("object.verb", "json"),
    ("object.object", "json"),
    ("object.member", "json"),
    ("result.success", "bool"),
    ("result.completion", "bool"),
    // Torus writes an object.
    ("result.response", "json"),
    ("result.score.raw", "float64"),
    ("result.score.min", "float64"),
    ("result.score.max", "float64"),
    ("result.score.scaled", "float64"),
    ("result.extensions.\"https://w3id.org/xapi/video/extensions/time\"", "float64"),
    ("result.extensions.\"https://w3id.org/xapi/video/extensions/time-from\"", "float64"),
    ("result.extensions.\"https://w3id.org/xapi/video/extensions/time-to\"", "float64"),
    ("result.extensions.\"https://w3id.org/xapi/video/extensions/progress\"", "float64"),
    ("result.extensions.\"https://w3id.org/xapi/video/extensions/played-segments\"", "string"),
    ("context.contextActivities", "json"),
    ("context.instructor", "json"),
    ("context.team", "json"),
    ("context.statement", "json"),
    ("context.extensions.\"https://w3id.org/xapi/video/extensions/length\"", "float64"),
    ("context.extensions.\"https://w3id.org/xapi/video/extensions/completion-threshold\"", "json"),
];

/// Torus' extensions: where they stand, their name, their type. All of them are
/// known with `http` and with `https`.
pub(super) const EXTENSIONS: &[(&str, &str, &str)] = &[
    ("context", "section_id", "int64"),
    ("context", "project_id", "int64"),
    ("context", "publication_id", "int64"),
    ("context", "enrollment_id", "int64"),
    ("context", "page_id", "int64"),
    ("context", "resource_id", "int64"),
    ("context", "page_attempt_guid", "string"),
    ("context", "page_attempt_number", "int64"),
    ("context", "activity_attempt_guid", "string"),
    ("context", "activity_attempt_number", "int64"),
    ("context", "part_attempt_guid", "string"),
    ("context", "part_attempt_number", "int64"),
    ("context", "activity_id", "int64"),
    ("context", "activity_revision_id", "int64"),
    ("context", "part_id", "string"),
    ("context", "hints_requested", "json"),
    ("context", "attached_objectives", "json"),
    ("context", "session_id", "string"),
    ("context", "content_element_id", "string"),
    ("context", "experiment_attributions", "json"),
    ("result", "feedback", "json"),
];

/// A table.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What a person is told of it.
    pub(super) about: &'static str,
    /// The one kind of statement that it has; all if there is none.
    pub(super) kind: Option<&'static str>,
    columns: &'static [&'static str],
}

pub(super) const TABLES: &[Table] = &[
    Table {
        name: "raw_events",
        about: "Every statement, with all columns.",
        kind: None,
        columns: &[
            "event_hash",
            "timestamp",
            "event_type",
            "verb_id",
            "user_id",
            "home_page",
            "section_id",
            "project_id",
            "publication_id",
            "enrollment_id",
            "page_id",
            "content_element_id",
            "video_url",
            "video_title",
            "video_time",
            "video_length",
            "video_progress",
            "video_played_segments",
            "video_seek_from",
            "video_seek_to",
            "page_attempt_guid",
            "page_attempt_number",
            "activity_attempt_guid",
            "activity_attempt_number",
            "part_attempt_guid",
            "part_attempt_number",
            "activity_id",
            "activity_revision_id",
            "part_id",
            "page_sub_type",
            "score",
            "out_of",
            "scaled_score",
            "success",
            "completion",
            "response",
            "feedback",
            "hints_requested",
            "attached_objectives",
            "session_id",
            "source_file",
            "source_etag",
            "source_line",
        ],
    },
    Table {
        name: "video_events",
        about: "Videos: played, paused, seeked, completed.",
        kind: Some("video"),
        columns: &[
            "event_id",
            "timestamp",
            "user_id",
            "host_name",
            "session_id",
            "section_id",
            "project_id",
            "publication_id",
            "page_id",
            "attempt_guid",
            "attempt_number",
            "content_element_id",
            "video_url",
            "video_title",
            "verb",
            "video_time",
            "video_length",
            "video_progress",
            "video_played_segments",
            "video_play_time",
            "video_seek_from",
            "video_seek_to",
            "event_hash",
        ],
    },
    Table {
        name: "activity_attempt_events",
        about: "Attempts at activities that were evaluated.",
        kind: Some("activity_attempt"),
        columns: &[
            "event_id",
            "timestamp",
            "user_id",
            "host_name",
            "section_id",
            "project_id",
            "publication_id",
            "page_id",
            "activity_attempt_guid",
            "activity_attempt_number",
            "page_attempt_guid",
            "page_attempt_number",
            "activity_id",
            "activity_revision_id",
            "score",
            "out_of",
            "scaled_score",
            "success",
            "completion",
            "event_hash",
        ],
    },
    Table {
        name: "page_attempt_events",
        about: "Attempts at graded pages that were evaluated.",
        kind: Some("page_attempt"),
        columns: &[
            "event_id",
            "timestamp",
            "user_id",
            "host_name",
            "section_id",
            "project_id",
            "publication_id",
            "page_id",
            "page_attempt_guid",
            "page_attempt_number",
            "score",
            "out_of",
            "scaled_score",
            "success",
            "completion",
            "event_hash",
        ],
    },
    Table {
        name: "page_viewed_events",
        about: "Pages that were looked at.",
        kind: Some("page_viewed"),
        columns: &[
            "event_id",
            "timestamp",
            "user_id",
            "host_name",
            "section_id",
            "project_id",
            "publication_id",
            "page_id",
            "page_attempt_guid",
            "page_attempt_number",
            "page_sub_type",
            "success",
            "completion",
            "event_hash",
        ],
    },
    Table {
        name: "part_attempt_events",
        about: "Answers to the parts of activities, with feedback and hints.",
        kind: Some("part_attempt"),
        columns: &[
            "event_id",
            "timestamp",
            "user_id",
            "host_name",
            "session_id",
            "section_id",
            "project_id",
            "publication_id",
            "page_id",
            "part_attempt_guid",
            "part_attempt_number",
            "activity_attempt_guid",
            "activity_attempt_number",
            "page_attempt_guid",
            "page_attempt_number",
            "activity_id",
            "activity_revision_id",
            "part_id",
            "score",
            "out_of",
            "scaled_score",
            "success",
            "completion",
            "response",
            "feedback",
            "hints_requested",
            "attached_objectives",
            "event_hash",
        ],
    },
];

impl Table {
    /// The SELECT that makes its rows.
    pub(super) fn sql(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|name| column(name)).collect();
        let mut sql = format!(
            "SELECT\n  {}\nFROM (\n  \
               SELECT _raw, _file, _line, _etag, id, timestamp, stored, actor, verb, object, result,\n    \
                 context.extensions AS e, result.extensions AS r\n  FROM input\n)\n",
            columns.join(",\n  ")
        );
        if let Some(kind) = self.kind {
            sql.push_str(&format!("WHERE {}\n", is(kind)));
        }
        sql
    }
}

/// One of Torus' extensions of the context.
fn ext(name: &str) -> String {
    either(&[name])
}

/// The first of these extensions of the context that there is.
fn either(names: &[&str]) -> String {
    let of = |name: &&str| {
        ["http", "https"].map(|scheme| format!("e['{scheme}://oli.cmu.edu/extensions/{name}']"))
    };
    let all: Vec<String> = names.iter().flat_map(of).collect();
    format!("coalesce({})", all.join(", "))
}

/// One of the video profile's extensions.
fn video(of: &str, name: &str) -> String {
    format!("{of}['https://w3id.org/xapi/video/extensions/{name}']")
}

/// The text in a JSON string, or the JSON of anything else.
fn plain(json: &str) -> String {
    format!("coalesce(json_get_str(concat('[', {json}, ']'), 0), {json})")
}

/// Whether a statement is of this kind.
fn is(kind: &str) -> String {
    let both = |name: &str| {
        format!("('http://oli.cmu.edu/extensions/{name}', 'https://oli.cmu.edu/extensions/{name}')")
    };
    let done = "verb.id = 'http://adlnet.gov/expapi/verbs/completed' AND object.definition.type";
    match kind {
        "video" => {
            let verb = |name| format!("'https://w3id.org/xapi/video/verbs/{name}'");
            let verbs = ["played", "paused", "seeked", "completed"].map(verb).join(", ");
            format!("verb.id IN ({verbs}, 'http://adlnet.gov/expapi/verbs/experienced')")
        }
        "page_viewed" => format!(
            "verb.id = 'http://id.tincanapi.com/verb/viewed' AND object.definition.type IN {}",
            both("types/page")
        ),
        "part_attempt" => format!("{done} = 'http://adlnet.gov/expapi/activities/question'"),
        kind => format!("{done} IN {}", both(kind)),
    }
}

/// A column with its expression.
fn column(name: &str) -> String {
    let expression = expression(name);
    if expression == name { expression } else { format!("{expression} AS {name}") }
}

fn expression(name: &str) -> String {
    let of_video = |expression: &str| format!("CASE WHEN {} THEN {expression} END", is("video"));
    match name {
        "event_hash" => "sha256_hex(_raw)".into(),
        // Torus gives none; the same statement then has the same, for ever.
        "event_id" => "coalesce(id, sha256_hex(_raw))".into(),
        // The last one as an LRS does it (part two of the specification, 2.4.7).
        "timestamp" => "coalesce(timestamp, stored, now())".into(),
        "event_type" => {
            let kinds = ["video", "activity_attempt", "page_attempt", "part_attempt", "page_viewed"];
            let when = kinds.map(|kind| format!("\n    WHEN {} THEN '{kind}'", is(kind)));
            format!("CASE{}\n    ELSE 'unknown' END", when.concat())
        }
        "verb_id" | "verb" => "verb.id".into(),
        "user_id" => "coalesce(actor.account.name, replace(actor.mbox, 'mailto:', ''), actor.mbox_sha1sum, \
                      actor.openid)"
            .into(),
        "home_page" | "host_name" => "actor.account.homePage".into(),
        // Videos say their page otherwise, but for those that were completed.
        "page_id" => either(&["page_id", "resource_id"]),
        "attempt_guid" => ext("page_attempt_guid"),
        "attempt_number" => ext("page_attempt_number"),
        "video_url" => of_video("object.id"),
        "video_title" => of_video(
            "coalesce(json_get_str(object.definition.name, 'en-US'), json_get_str(object.definition.name, 'en'), \
             CASE WHEN object.definition.name LIKE '{%' THEN json_entries(object.definition.name)[1]['value'] END)",
        ),
        "video_time" => video("r", "time"),
        "video_length" => video("e", "length"),
        "video_progress" => video("r", "progress"),
        "video_played_segments" => video("r", "played-segments"),
        "video_seek_from" => video("r", "time-from"),
        "video_seek_to" => video("r", "time-to"),
        // Where it began to play.
        "video_play_time" => format!(
            "CASE WHEN verb.id = 'https://w3id.org/xapi/video/verbs/played' THEN {} END",
            video("r", "time")
        ),
        "page_sub_type" => "object.definition.subType".into(),
        "score" => "result.score.raw".into(),
        "out_of" => "result.score.max".into(),
        "scaled_score" => "result.score.scaled".into(),
        "success" | "completion" => format!("result.{name}"),
        "response" => plain("result.response"),
        "feedback" => plain(
            "coalesce(r['http://oli.cmu.edu/extensions/feedback'], r['https://oli.cmu.edu/extensions/feedback'])",
        ),
        // Torus gives the list of them.
        "hints_requested" => {
            let hints = ext("hints_requested");
            format!(
                "CASE WHEN {hints} LIKE '[%' THEN coalesce(CAST(array_length(json_array({hints})) AS BIGINT), 0)\n    \
                 ELSE TRY_CAST({hints} AS BIGINT) END"
            )
        }
        "source_file" => "_file".into(),
        "source_etag" => "_etag".into(),
        "source_line" => "_line".into(),
        extension => ext(extension),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A column that nobody knows would be an extension that nobody declares.
    #[test]
    fn every_extension_that_is_read_is_declared() {
        for table in TABLES {
            let sql = table.sql();
            for read in sql.split("e['http://oli.cmu.edu/extensions/").skip(1) {
                let name = read.split('\'').next().unwrap_or_default();
                assert!(EXTENSIONS.iter().any(|(_, known, _)| *known == name), "{}: {name}", table.name);
            }
        }
    }
}
