//! The settings of adobe-livestream-redshift-daemon: every key of its
//! `producer_parameters.json` and `config_admin.json` is either taken over, or
//! named with the reason why it is not.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value};

use crate::exit::{Code, coded};

const FILES: [&str; 2] = ["producer_parameters.json", "config_admin.json"];
/// A file that is larger is none of them.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Keys of the table, what they are called in the template, and what stands
/// there without them.
const REDSHIFT: [(&str, &str, &str); 6] = [
    ("Redshift_host", "host", "${REDSHIFT_HOST}"),
    ("Redshift_port", "port", "5439"),
    ("Redshift_dbname", "database", "${REDSHIFT_DATABASE}"),
    ("Redshift_user", "user", "${REDSHIFT_USER}"),
    ("Redshift_staging_table_name", "table", "adobe_ls.adobe_livestream_stg"),
    ("IAM_Role", "role", "${REDSHIFT_IAM_ROLE:-default}"),
];

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub(super) livestream: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) max_connections: Option<u8>,
    pub(super) from_oldest: bool,
    pub(super) smoothing: bool,
    pub(super) smoothing_bucket_size: Option<u16>,
    records: Option<u64>,
    files: Option<u64>,
    pub(super) bucket: Option<String>,
    pub(super) region: Option<String>,
    pub(super) base_path: Option<String>,
    /// `host`, `port`, `database`, `user`, `table`, `role`.
    pub(super) redshift: BTreeMap<&'static str, String>,
    /// What became of each key.
    notes: Vec<(String, String)>,
}

impl Imported {
    /// Reads the files of a folder, or of its `data` folder.
    ///
    /// # Errors
    /// There is none of them, or one that is no JSON object.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut imported = Self::default();
        let mut found = false;
        for name in FILES {
            let places = [folder.join(name), folder.join("data").join(name)];
            let Some(path) = places.iter().find(|path| path.is_file()) else { continue };
            let wrong = |why: String| coded(Code::Usage, format!("{}: {why}", path.display()));
            let mut text = Vec::new();
            let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
            lakeward_model::limits::read_capped(file, FILE_BYTES_MAX, &mut text)
                .map_err(|error| wrong(error.to_string()))?;
            // The values may be secrets: an error says only where.
            let keys: Map<String, Value> = serde_json::from_slice(&text).map_err(|error| {
                wrong(format!("no JSON object, line {} column {}", error.line(), error.column()))
            })?;
            found = true;
            for (key, value) in keys {
                let note = imported.take(&key, &value);
                imported.notes.push((key, note));
            }
        }
        if !found {
            let message = format!("{} has neither {} nor {}", folder.display(), FILES[0], FILES[1]);
            return Err(coded(Code::Usage, message));
        }
        Ok(imported)
    }

    /// Takes one key over, and says what became of it.
    fn take(&mut self, key: &str, value: &Value) -> String {
        let taken = |setting: &str| format!("is {setting}");
        let odd = || String::from("is not taken over: its value is not as it should be");
        let text = plain(value).filter(|text| is_harmless(text));
        let number = text.as_deref().and_then(|text| text.parse::<u64>().ok());
        match key {
            "maxConnections" => {
                self.max_connections =
                    number.and_then(|n| u8::try_from(n).ok()).filter(|n| (1..=8).contains(n));
                self.max_connections.map_or_else(odd, |_| taken("max_connections"))
            }
            "reset" if matches!(text.as_deref(), Some("smallest" | "earliest")) => {
                self.from_oldest = true;
                taken("reset, and used for the first connection only")
            }
            "reset" => {
                "is left out: asking for the newest at every connection loses what came between two of \
                        them. Without it the first connection goes on where the old client was cut off"
                    .into()
            }
            "smoothing" => {
                self.smoothing = matches!(text.as_deref(), Some("1" | "true"));
                taken("smoothing")
            }
            "smoothingBucketSize" => {
                self.smoothing_bucket_size =
                    number.and_then(|n| u16::try_from(n).ok()).filter(|n| (1..=7_200).contains(n));
                self.smoothing_bucket_size.map_or_else(odd, |_| taken("smoothing_bucket_size"))
            }
            "BATCH_RECORDS" => {
                self.records = number.filter(|n| *n > 0);
                self.records.map_or_else(odd, |_| {
                    taken("the records of a file, and times BATCH_FILES batch.records: one batch, one COPY")
                })
            }
            "BATCH_FILES" => {
                self.files = number.filter(|n| *n > 0);
                self.files
                    .map_or_else(odd, |_| taken("batch.records, times BATCH_RECORDS: one batch, one COPY"))
            }
            "S3_bucket_name" => {
                self.bucket = text;
                self.bucket.as_ref().map_or_else(odd, |_| taken("the bucket of the files"))
            }
            "S3_region_name" => {
                self.region = text;
                self.region.as_ref().map_or_else(odd, |_| taken("the bucket's region"))
            }
            "S3_base_path" => {
                let path =
                    text.map(|path| path.trim_matches('/').to_string()).filter(|path| !path.is_empty());
                self.base_path = path.map(|path| format!("{path}/"));
                taken("the beginning of the files' names")
            }
            "api_key" => {
                self.client_id = text;
                self.client_id.as_ref().map_or_else(odd, |_| {
                    taken("client_id; check that it is that of an OAuth server-to-server credential")
                })
            }
            "livestreamEndpoint" | "AdobeStreamEndpoint" => match text.as_deref().and_then(name_of) {
                Some(name) => {
                    self.livestream = Some(name);
                    taken("livestream")
                }
                None => "has no name of a Livestream in it: set livestream".into(),
            },
            other => match REDSHIFT.iter().find(|(known, ..)| *known == other) {
                Some((_, name, _)) => match text {
                    Some(text) => {
                        self.redshift.insert(name, text);
                        format!("is the destination's {name}")
                    }
                    None => odd(),
                },
                None => unused(other).into(),
            },
        }
    }

    /// The destination with the table's settings, or variables for them.
    pub(super) fn table(&self, template: &str) -> String {
        let mut text = template.to_string();
        for (_, name, default) in REDSHIFT {
            let value = self.redshift.get(name).map_or(default, String::as_str);
            text = text.replace(&format!("<{name}>"), value);
        }
        let bucket = self.bucket.as_deref().unwrap_or("${REDSHIFT_STAGING_BUCKET}");
        let rows = self.records.map(|records| format!(", rows_per_file: {records}")).unwrap_or_default();
        text.replace("<bucket>", bucket).replace("<rows>", &rows)
    }

    /// The records of one COPY.
    pub(super) fn batch_records(&self) -> Option<u64> {
        match (self.records, self.files) {
            (None, None) => None,
            (records, files) => records.unwrap_or(1_000).checked_mul(files.unwrap_or(10)),
        }
    }

    /// What became of every key, as comments.
    pub(super) fn report(&self) -> String {
        if self.notes.is_empty() {
            return String::new();
        }
        let mut text = String::from("#\n# Taken over from adobe-livestream-redshift-daemon:\n");
        for (key, note) in &self.notes {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "#   {} {note}.", key.escape_debug());
        }
        text.push('\n');
        text
    }
}

/// Keys without a place, and why; never their values.
fn unused(key: &str) -> &'static str {
    match key {
        "copy_command_approach" => "is obsolete: one COPY loads all files of a batch by their manifest",
        "Redshift_password" => "is not copied: keep passwords out of files, as ${REDSHIFT_PASSWORD}",
        "Redshift_columns" => "is what the SQL below selects: name its columns so, or the table's like these",
        "secret" => "is not copied: give the client secret of the OAuth credential as ${ADOBE_CLIENT_SECRET}",
        "org_id" | "tech_id" | "pathToKey" => {
            "is obsolete: it belongs to JWT credentials, which ended in 2025"
        }
        "tokenEndpoint" => "is obsolete: tokens come from Adobe's /ims/token/v3, or set token_url",
        _ => "is not known",
    }
}

/// A text or a number, as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    }
}

/// Whether a text may stand in quotes in the file as it is.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '$' | '<' | '>'))
}

/// The name in an address such as `https://host/api/1/stream/NAME`, or the name.
fn name_of(text: &str) -> Option<String> {
    let name = match text.split_once("/stream/") {
        Some((_, rest)) => rest.split(['?', '/', '#']).next().unwrap_or_default(),
        None if text.contains('/') => return None,
        None => text,
    };
    (!name.is_empty()).then(|| name.to_string())
}
