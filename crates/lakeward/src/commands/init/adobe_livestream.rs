//! `lakeward init adobe-livestream`.

mod import;

use std::path::{Path, PathBuf};

use import::Imported;

const TEMPLATE: &str = include_str!("templates/adobe-livestream.yaml");

/// Fields that Adobe adds without notice become columns too.
const NEW_FIELDS: &str = ",\n        -- What Adobe adds without notice.\n        * EXCLUDE (<known>)";

const PARQUET: &str = r#"    output:
      format: parquet
      compression: zstd
      path: "hits/year=!{event:received_time:yyyy}/month=!{event:received_time:MM}/day=!{event:received_time:dd}/"
      error_path: "errors/hits/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/"
    destination:
      type: lake
      url: ./lake
      # Or a bucket; credentials come from the environment, a profile or a role:
      # url: s3://my-bucket/
      # region: eu-west-1"#;

/// As Redshift's COPY takes it: see docs/adobe-livestream.md.
const CSV: &str = r#"    output:
      # COPY … FORMAT CSV DELIMITER '~' IGNOREHEADER 1 TIMEFORMAT 'auto'. Fields
      # with a `~`, a quote or a line break are quoted: no character is lost.
      format: csv
      delimiter: "~"
      compression: none
      path: "<base>!{timestamp:yyyyMMdd}/"
      error_path: "errors/hits/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/"
    destination:
      type: lake
      url: <url>
      <region>"#;

/// A table, and the names of adobe-livestream-redshift-daemon in the staging.
const REDSHIFT: &str = r#"    destination:
      type: redshift
      host: "<host>"
      port: <port>
      database: "<database>"
      user: "<user>"
      password: "${REDSHIFT_PASSWORD}"
      table: "<table>"
      # The role by which COPY reads the staged files.
      iam_role: "<role>"
      # <yyyymmdd>/<batch>/<n>.csv and a manifest. Files stay for a lifecycle rule
      # of the bucket; with `keep: false` they go when they are loaded.
      staging:
        url: "s3://<bucket>/<base>"
        layout: ingest
        keep: true
        <region>
      # Fields with a `~`, a quote or a line break are quoted.
      copy: { delimiter: "~", gzip: false<rows> }
      # What the table does not take, with the reason.
      quarantine: { url: ./quarantine }"#;

/// What to do with the configuration.
pub(super) const HINTS: &[&str] = &[
    "Set ADOBE_CLIENT_SECRET, and ADOBE_SCOPES as the developer console shows them.",
    "In the background: `lakeward daemon start`, or the systemd unit lakeward@.service.",
    "To try it without an account: `lakeward simulate adobe-livestream`, and `endpoint:` and `token_url:`.",
];

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Files {
    /// Apache Parquet with zstd, by the day on which Adobe received the hit.
    Parquet,
    /// Delimited by `~`, one folder a day, for Redshift's COPY.
    Csv,
    /// No files: a table of Redshift, by `~`-delimited files in S3 and COPY.
    Redshift,
}

/// Write a configuration for Adobe Analytics Livestream.
#[derive(Debug, clap::Args)]
pub(super) struct AdobeLivestream {
    /// The file to write; an existing one is never overwritten.
    #[arg(default_value = "lakeward.yaml", value_name = "FILE")]
    file: PathBuf,
    /// What the files are. Default: parquet; with `--from` what the old client
    /// had, redshift or else csv.
    #[arg(long, value_enum)]
    format: Option<Files>,
    /// The Livestream's name. Default: `${ADOBE_LIVESTREAM}`.
    #[arg(long, value_name = "NAME")]
    livestream: Option<String>,
    /// Take over the settings of adobe-livestream-redshift-daemon: the folder
    /// with producer_parameters.json and config_admin.json, or the one above it.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
}

impl AdobeLivestream {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The template with the choices filled in.
    ///
    /// # Errors
    /// The settings to take over cannot be read.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        let imported = self.from.as_deref().map(Imported::read).transpose()?;
        let default = match &imported {
            None => Files::Parquet,
            Some(settings) if settings.redshift.contains_key("host") => Files::Redshift,
            Some(_) => Files::Csv,
        };
        let settings = imported.unwrap_or_default();
        let format = self.format.unwrap_or(default);
        let livestream = self.livestream.clone().or_else(|| settings.livestream.clone());
        let smoothing = match (settings.smoothing, settings.smoothing_bucket_size) {
            (false, _) => {
                "    # Spreads peaks over time:\n    # smoothing: true\n    # smoothing_bucket_size: 270"
                    .into()
            }
            (true, None) => "    smoothing: true".into(),
            (true, Some(seconds)) => {
                format!("    smoothing: true\n    smoothing_bucket_size: {seconds}")
            }
        };
        let (rest, output) = match format {
            Files::Parquet => (NEW_FIELDS.replace("<known>", &known()), PARQUET.to_string()),
            Files::Csv => (String::new(), CSV.to_string()),
            Files::Redshift => (String::new(), settings.table(REDSHIFT)),
        };
        let batch = match settings.batch_records() {
            Some(records) => format!("{{ records: {records}, age: 5m }}"),
            None => "{ size: 128MiB, age: 5m }".into(),
        };
        let bucket = settings.bucket.as_ref().map_or("./lake".into(), |bucket| format!("\"s3://{bucket}/\""));
        let region =
            settings.region.as_ref().map_or("# region: eu-west-1".into(), |r| format!("region: {r}"));
        let base = settings.base_path.clone().unwrap_or_else(|| "ToIngest/".into());
        let text = TEMPLATE
            .replace("<imported>\n", &settings.report())
            .replace("<livestream>", livestream.as_deref().unwrap_or("${ADOBE_LIVESTREAM}"))
            .replace("<client_id>", settings.client_id.as_deref().unwrap_or("${ADOBE_CLIENT_ID}"))
            .replace("<max_connections>", &settings.max_connections.unwrap_or(1).to_string())
            .replace("<connections>", "1")
            .replace("<smoothing>", &smoothing)
            .replace("<reset>", if settings.from_oldest { "reset: smallest" } else { "# reset: smallest" })
            .replace("<batch>", &batch)
            .replace("<rest>", &rest)
            .replace("<output>", &output)
            .replace("<url>", &bucket)
            .replace("<region>", &region)
            .replace("<base>", &base);
        Ok(text)
    }
}

/// The declared columns of the template, which the SQL names one by one.
fn known() -> String {
    let from = TEMPLATE.split("      columns:\n").nth(1).unwrap_or_default();
    let names: Vec<String> = from
        .lines()
        .map_while(|line| line.strip_prefix("        "))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn template(format: Option<Files>, from: Option<&Path>) -> AdobeLivestream {
        let from = from.map(Path::to_path_buf);
        AdobeLivestream { file: PathBuf::new(), format, livestream: None, from }
    }

    fn parsed(text: &str) -> serde_json::Value {
        let keys = |name: &str| {
            let is_ours = name.starts_with("ADOBE_") || name.starts_with("REDSHIFT_");
            // The role has a default, and may not be just anything.
            (is_ours && name != "REDSHIFT_IAM_ROLE").then(|| String::from("k3y"))
        };
        let config = Config::parse(text, Path::new("."), keys)
            .unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
        serde_json::to_value(config).unwrap()
    }

    /// What is in the file, sound or not.
    fn written(text: &str) -> serde_json::Value {
        // Where this release has no such destination, the form is all there is.
        if crate::config::schema().to_string().contains("\"redshift\"") {
            parsed(text);
        }
        serde_yaml_ng::from_str(text).unwrap()
    }

    #[test]
    fn every_choice_is_a_sound_configuration() {
        for format in [None, Some(Files::Csv), Some(Files::Parquet), Some(Files::Redshift)] {
            let text = template(format, None).text().unwrap();
            let config = match format {
                Some(Files::Redshift) => written(&text),
                _ => parsed(&text),
            };
            assert_eq!(config["sources"][0]["stream"], config["pipelines"][0]["stream"]);
            let left = text.replace("<Bot>", "");
            assert!(!left.contains("<k") && !left.lines().any(|l| l.trim().starts_with('<')), "{text}");
            crate::wiring::compile_sql(config["pipelines"][0]["sql"].as_str().unwrap())
                .expect("the SQL is sound");
        }
    }

    #[test]
    fn every_key_of_the_old_client_is_taken_over_or_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let producer = serde_json::json!({
            "maxConnections": "4", "reset": "largest", "smoothing": 1, "smoothingBucketSize": 300,
            "BATCH_RECORDS": 500, "BATCH_FILES": "4", "copy_command_approach": "multiple files",
            "S3_base_path": "ToIngest/", "S3_bucket_name": "hits-bucket", "S3_region_name": "eu-west-1",
            "Redshift_staging_table_name": "adobe_ls.adobe_livestream_stg", "Redshift_columns": "a,b",
            "Redshift_dbname": "dwh", "Redshift_host": "h", "Redshift_port": 5439, "Redshift_user": "u",
            "Redshift_password": "pssst-redshift", "IAM_Role": "arn:aws:iam::1:role/r", "mine": "x",
        });
        let admin = serde_json::json!({
            "org_id": "1@AdobeOrg", "api_key": "abc123", "tech_id": "t", "secret": "pssst-adobe",
            "pathToKey": "data/pkey.key", "tokenEndpoint": "https://ims-na1.adobelogin.com/ims/exchange/jwt",
            "livestreamEndpoint": "https://livestream.adobe.net/api/1/stream/adobe-livestream-acme?x=1",
            "AdobeStreamEndpoint": "https://livestream.adobe.net",
        });
        std::fs::write(data.join("producer_parameters.json"), producer.to_string()).unwrap();
        std::fs::write(data.join("config_admin.json"), admin.to_string()).unwrap();
        for from in [folder.path(), data.as_path()] {
            let text = template(None, Some(from)).text().unwrap();
            assert!(!text.contains("pssst"), "{text}");
            for key in producer.as_object().unwrap().keys().chain(admin.as_object().unwrap().keys()) {
                let named = format!("#   {key} is ");
                let other = format!("#   {key} ");
                assert!(text.contains(&named) || text.contains(&other), "{key} in {text}");
            }
            assert!(text.contains("#   mine is not known."), "{text}");
            let config = written(&text);
            let source = &config["sources"][0];
            assert_eq!(source["livestream"], "adobe-livestream-acme");
            assert_eq!(source["client_id"], "abc123");
            assert_eq!(source["max_connections"], 4);
            assert_eq!((&source["smoothing"], &source["smoothing_bucket_size"]), (&true.into(), &300.into()));
            assert_eq!(source.get("reset"), None);
            let pipeline = &config["pipelines"][0];
            assert_eq!(pipeline["batch"]["records"], 2_000);
            let destination = &pipeline["destination"];
            let expect = serde_json::json!({
                "type": "redshift", "host": "h", "port": 5439, "database": "dwh", "user": "u",
                "password": "${REDSHIFT_PASSWORD}", "table": "adobe_ls.adobe_livestream_stg",
                "iam_role": "arn:aws:iam::1:role/r",
                "staging": {
                    "url": "s3://hits-bucket/ToIngest/", "layout": "ingest", "keep": true, "region": "eu-west-1",
                },
                "copy": { "delimiter": "~", "gzip": false, "rows_per_file": 500 },
                "quarantine": { "url": "./quarantine" },
            });
            assert_eq!(*destination, expect);
            // The same into files.
            let config = parsed(&template(Some(Files::Csv), Some(from)).text().unwrap());
            let pipeline = &config["pipelines"][0];
            assert_eq!(pipeline["destination"]["url"], "s3://hits-bucket/");
            assert_eq!(pipeline["destination"]["region"], "eu-west-1");
            assert_eq!(pipeline["output"]["path"], "ToIngest/!{timestamp:yyyyMMdd}/");
            assert_eq!(pipeline["output"]["delimiter"], "~");
        }
    }

    #[test]
    fn what_is_no_setting_of_the_old_client_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = template(None, Some(folder.path())).text().unwrap_err().to_string();
        assert!(error.contains("producer_parameters.json"), "{error}");
        std::fs::write(folder.path().join("config_admin.json"), "{\"secret\": \"pssst").unwrap();
        let error = template(None, Some(folder.path())).text().unwrap_err().to_string();
        assert!(error.contains("no JSON object") && !error.contains("pssst"), "{error}");
        // What would break the file is not taken over.
        let odd = r#"{"api_key": "a\"\nlisten: 0.0.0.0:1", "maxConnections": 99, "BATCH_RECORDS": -1}"#;
        std::fs::write(folder.path().join("config_admin.json"), odd).unwrap();
        let config = parsed(&template(None, Some(folder.path())).text().unwrap());
        assert_eq!(
            (&config["sources"][0]["client_id"], &config["sources"][0]["max_connections"]),
            (&"k3y".into(), &1.into())
        );
    }
}
