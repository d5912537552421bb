//! The names of streams and consumers as Amazon Resource Names.

/// The ARN of a stream or of one of its consumers:
/// `arn:aws:kinesis:us-east-1:000000000000:stream/events/consumer/app:1700000000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arn<'a> {
    pub(crate) account: &'a str,
    pub(crate) stream: &'a str,
    /// The consumer's name and the second of its registration.
    pub(crate) consumer: Option<(&'a str, i64)>,
}

impl<'a> Arn<'a> {
    /// `None` if it is something else.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let sound = arn == "arn"
            && partition.starts_with("aws")
            && is_plain(partition)
            && service == "kinesis"
            && is_plain(region)
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit());
        if !sound {
            return None;
        }
        let rest = resource.strip_prefix("stream/")?;
        let (stream, consumer) = match rest.split_once("/consumer/") {
            Some((stream, consumer)) => {
                let (name, created) = consumer.split_once(':')?;
                (stream, Some((name, created.parse().ok()?)))
            }
            None => (rest, None),
        };
        let names = [Some(stream), consumer.map(|(name, _)| name)];
        names.into_iter().flatten().all(is_name).then_some(Self { account, stream, consumer })
    }
}

fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_consumers() {
        let check = |text: &str, expect: Option<(&str, Option<(&str, i64)>)>| {
            assert_eq!(Arn::parse(text).map(|arn| (arn.stream, arn.consumer)), expect, "{text}");
        };
        let of = |rest: &str| format!("arn:aws:kinesis:eu-west-1:123456789012:{rest}");
        check(&of("stream/my-events"), Some(("my-events", None)));
        check(&of("stream/s/consumer/app_1:1700000000"), Some(("s", Some(("app_1", 1_700_000_000)))));
        check("arn:aws-cn:kinesis:cn-north-1:123456789012:stream/s", Some(("s", None)));
        for wrong in [
            of("stream/"),
            of("stream/a/b"),
            of("stream/s/consumer/app"),
            of("stream/s/consumer/app:x"),
            of("channel/s"),
            "arn:aws:firehose:eu-west-1:123456789012:stream/s".into(),
            "arn:aws:kinesis:eu-west-1:12345678901:stream/s".into(),
            "s".into(),
        ] {
            check(&wrong, None);
        }
    }
}
