//! ProcessingConfiguration: what the API says of a stream's processors, and
//! what it means for the pipeline.
//!
//! Sources: the developer guide's "Data transformation", "Dynamic
//! partitioning" and "Decompress CloudWatch Logs"; AWS's words, its order of
//! checks and its defaults from probes of the real service (contract, section
//! 2.6). Where those are not known, the words are ours.

use lakeward_columnar::shape::{Lambda, Processing, Split};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fault::Fault;

/// Defaults of a Lambda processor's parameters.
const RETRIES: &str = "3";
const BUFFER_MEBIBYTES: &str = "1";
const BUFFER_SECONDS: &str = "60";

/// Range of BufferSizeInMBs (API reference, ProcessorParameter).
const BUFFER_MEBIBYTES_RANGE: std::ops::RangeInclusive<f64> = 0.2..=3.0;

/// AWS takes any number of retries; more than these would never end.
const RETRIES_MAX: u32 = 300;

/// Most records in one call, and calls at the same time (developer guide,
/// "Data transformation flow": up to 5 per shard).
const LAMBDA_RECORDS: usize = 10_000;
const LAMBDA_CONCURRENCY: usize = 5;

/// ProcessingConfiguration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Processors {
    enabled: bool,
    processors: Option<Vec<One>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    r#type: String,
    #[serde(default)]
    parameters: Option<Vec<Parameter>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Parameter {
    #[serde(rename = "ParameterName")]
    name: String,
    #[serde(rename = "ParameterValue")]
    value: String,
}

impl One {
    fn parameters(&self) -> &[Parameter] {
        self.parameters.as_deref().unwrap_or_default()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters().iter().find(|parameter| parameter.name == name).map(|p| p.value.as_str())
    }
}

/// Completes a Lambda processor's parameters and puts them into AWS's order;
/// what is wrong with them is left for [`Processors::check`] to say.
pub(super) fn complete(processing: &mut Value, role: Option<&Value>) {
    for processor in processing["Processors"].as_array_mut().into_iter().flatten() {
        if processor["Type"] != "Lambda" {
            continue;
        }
        let given = processor["Parameters"].as_array().cloned().unwrap_or_default();
        let find = |name: &str| given.iter().find(|p| p["ParameterName"] == name).cloned();
        let has_buffer = find("BufferSizeInMBs").is_some() || find("BufferIntervalInSeconds").is_some();
        let role = role.and_then(Value::as_str);
        let known = [
            ("LambdaArn", None),
            ("NumberOfRetries", Some(RETRIES)),
            ("RoleArn", role),
            ("BufferSizeInMBs", Some(BUFFER_MEBIBYTES).filter(|_| !has_buffer)),
            ("BufferIntervalInSeconds", Some(BUFFER_SECONDS).filter(|_| !has_buffer)),
        ];
        let completed: Vec<Value> = known
            .into_iter()
            .filter_map(|(name, default)| {
                let default = default.map(|value| json!({"ParameterName": name, "ParameterValue": value}));
                find(name).or(default)
            })
            .collect();
        let is_plain = given.iter().all(|p| completed.contains(p)) && !has_duplicates(&given);
        if is_plain {
            processor["Parameters"] = Value::Array(completed);
        }
    }
}

fn has_duplicates(parameters: &[Value]) -> bool {
    let names: Vec<&Value> = parameters.iter().map(|parameter| &parameter["ParameterName"]).collect();
    (1..names.len()).any(|at| names[..at].contains(&names[at]))
}

impl Processors {
    /// Whether any processor of this type runs.
    pub(super) fn has(&self, kind: &str) -> bool {
        self.enabled && self.find(kind).is_some()
    }

    fn find(&self, kind: &str) -> Option<&One> {
        self.processors.iter().flatten().find(|processor| processor.r#type == kind)
    }

    /// Checks the processors, as AWS does whether they are enabled or not.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let all = self.processors.as_deref().unwrap_or_default();
        for processor in all {
            let names: Vec<&str> = processor.parameters().iter().map(|p| p.name.as_str()).collect();
            if (1..names.len()).any(|at| names[..at].contains(&names[at])) {
                return invalid("Duplicate ProcessorParameter passed to ProcessingConfiguration.");
            }
        }
        for (at, processor) in all.iter().enumerate() {
            let kind = processor.r#type.as_str();
            if all[..at].iter().any(|other| other.r#type == kind) {
                return invalid(&format!("Cannot have more than 1 {kind} processor."));
            }
        }
        for processor in all {
            match processor.r#type.as_str() {
                "Lambda" => drop(lambda(processor)?),
                "MetadataExtraction" => drop(query(processor)?),
                "RecordDeAggregation" => drop(split(processor)?),
                "Decompression" if processor.get("CompressionFormat") != Some("GZIP") => {
                    return invalid("CompressionFormat has to be GZIP");
                }
                "Decompression" | "AppendDelimiterToRecord" => {}
                kind if self.enabled => {
                    return invalid(&format!(
                        "ProcessingConfiguration with a processor of type {kind} is not supported by Lakeward yet."
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What they mean for the pipeline.
    pub(super) fn processing(&self) -> Result<Processing, Fault> {
        if !self.enabled {
            return Ok(Processing::default());
        }
        let delimiter = self.find("AppendDelimiterToRecord").map(|processor| {
            // The API is given the two characters `\n`.
            unescape(processor.get("Delimiter").unwrap_or("\\n"))
        });
        Ok(Processing {
            decompress: self.has("Decompression"),
            split: self.find("RecordDeAggregation").map(split).transpose()?,
            lambda: self.find("Lambda").map(lambda).transpose()?,
            partition_query: self.find("MetadataExtraction").map(query).transpose()?,
            delimiter,
        })
    }
}

fn lambda(processor: &One) -> Result<Lambda, Fault> {
    let Some(arn) = processor.get("LambdaArn") else {
        return invalid("LambdaArn is required when Lambda processor is used.");
    };
    if !is_lambda_arn(arn) {
        return invalid("Invalid lambda ARN.");
    }
    let (mebibytes, seconds) = (processor.get("BufferSizeInMBs"), processor.get("BufferIntervalInSeconds"));
    if mebibytes.is_some() != seconds.is_some() {
        return invalid(
            "Both BufferSizeInMBs and BufferIntervalInSeconds are required to configure buffering for lambda \
             processor.",
        );
    }
    let mebibytes: f64 = number("BufferSizeInMBs", mebibytes.unwrap_or(BUFFER_MEBIBYTES))?;
    if !BUFFER_MEBIBYTES_RANGE.contains(&mebibytes) {
        return invalid("BufferSizeInMBs must be between 0.2 and 3.");
    }
    // The pipeline's batches say when records move on; the interval is only
    // kept and described.
    let _: u32 = number("BufferIntervalInSeconds", seconds.unwrap_or(BUFFER_SECONDS))?;
    let retries: u32 = number("NumberOfRetries", processor.get("NumberOfRetries").unwrap_or(RETRIES))?;
    Ok(Lambda {
        function: json!({"type": "lambda_arn", "arn": arn}),
        name: arn.to_owned(),
        // At most 3 MiB, so the cast is exact enough.
        bytes: (mebibytes * f64::from(1 << 20)) as u64,
        records: LAMBDA_RECORDS,
        retries: retries.min(RETRIES_MAX),
        concurrency: LAMBDA_CONCURRENCY,
        wait: true,
    })
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Fault> {
    text.trim().parse().map_err(|_| Fault::invalid_argument(format!("{name} {text} is not a valid number.")))
}

/// `arn:aws:lambda:<region>:<account>:function:<name>[:<version or alias>]`.
fn is_lambda_arn(arn: &str) -> bool {
    let parts: Vec<&str> = arn.split(':').collect();
    let (["arn", partition, "lambda", region, account, "function", name]
    | ["arn", partition, "lambda", region, account, "function", name, _]) = parts[..]
    else {
        return false;
    };
    let is_name = |text: &str, max: usize| {
        let fits = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
        (1..=max).contains(&text.len()) && text.bytes().all(fits)
    };
    let qualifier = parts.get(7).is_none_or(|text| *text == "$LATEST" || is_name(text, 128));
    let is_account = account.len() == 12 && account.bytes().all(|c| c.is_ascii_digit());
    partition.starts_with("aws") && is_name(region, 64) && is_account && is_name(name, 140) && qualifier
}

fn query(processor: &One) -> Result<String, Fault> {
    if processor.get("JsonParsingEngine").is_some_and(|engine| engine != "JQ-1.6") {
        return invalid("JsonParsingEngine has to be JQ-1.6.");
    }
    match processor.get("MetadataExtractionQuery") {
        Some(query) => Ok(query.to_owned()),
        None => invalid("MetadataExtractionQuery is required when MetadataExtraction processor is used."),
    }
}

fn split(processor: &One) -> Result<Split, Fault> {
    match processor.get("SubRecordType") {
        Some("JSON") => Ok(Split::Json),
        Some("DELIMITED") => {
            let Some(delimiter) = processor.get("Delimiter") else {
                return invalid("Delimiter is required when SubRecordType is DELIMITED.");
            };
            let bytes = base64_simd::STANDARD.decode_to_vec(delimiter).ok().filter(|bytes| !bytes.is_empty());
            match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(text) => Ok(Split::Delimiter(text)),
                None => invalid("Delimiter must be UTF-8 text, encoded as base64."),
            }
        }
        _ => invalid("SubRecordType has to be JSON or DELIMITED."),
    }
}

/// `\n`, `\r`, `\t` and `\\` as those characters.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.clone().next() } else { None };
        let plain = match escaped {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('\\') => '\\',
            _ => {
                out.push(c);
                continue;
            }
        };
        chars.next();
        out.push(plain);
    }
    out
}

fn invalid<T>(message: &str) -> Result<T, Fault> {
    Err(Fault::invalid_argument(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_unescaped() {
        for (text, expect) in [
            ("\\n", "\n"),
            ("\\r\\n", "\r\n"),
            ("|", "|"),
            ("\\\\n", "\\n"),
            ("\\x\\", "\\x\\"),
            ("\n", "\n"),
        ] {
            assert_eq!(unescape(text), expect, "{text:?}");
        }
    }

    #[test]
    fn arns_of_functions() {
        for good in [
            "arn:aws:lambda:us-east-1:123456789012:function:f",
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:my_f-1:$LATEST",
            "arn:aws:lambda:eu-west-1:000000000000:function:f:live",
        ] {
            assert!(is_lambda_arn(good), "{good}");
        }
        for bad in [
            "f",
            "",
            "arn:aws:lambda:us-east-1:12345678901:function:f",
            "arn:aws:lambda:us-east-1:123456789012:function:",
            "arn:aws:lambda:us-east-1:123456789012:layer:f",
            "arn:aws:lambda:us-east-1:123456789012:function:f:",
            "arn:aws:lambda:us-east-1:123456789012:function:f:a:b",
            "arn:aws:s3:us-east-1:123456789012:function:f",
        ] {
            assert!(!is_lambda_arn(bad), "{bad}");
        }
    }

    #[test]
    fn a_lambda_processor_is_completed_in_order() {
        let parameter = |name: &str, value: &str| json!({"ParameterName": name, "ParameterValue": value});
        let check = |given: Vec<Value>, expect: Vec<Value>| {
            let mut processing = json!({"Processors": [{"Type": "Lambda", "Parameters": given}]});
            complete(&mut processing, Some(&json!("role")));
            assert_eq!(processing["Processors"][0]["Parameters"], Value::Array(expect));
        };
        let arn = parameter("LambdaArn", "arn");
        check(
            vec![parameter("NumberOfRetries", "1"), arn.clone()],
            vec![
                arn.clone(),
                parameter("NumberOfRetries", "1"),
                parameter("RoleArn", "role"),
                parameter("BufferSizeInMBs", "1"),
                parameter("BufferIntervalInSeconds", "60"),
            ],
        );
        let half = vec![parameter("BufferSizeInMBs", "2"), arn.clone(), parameter("RoleArn", "own")];
        let expect = [arn.clone(), parameter("NumberOfRetries", "3"), half[2].clone(), half[0].clone()];
        check(half, expect.to_vec());
        let twice = vec![arn.clone(), arn];
        check(twice.clone(), twice);
    }
}
