//! Feature-flag evaluations, with the spaces that Python's `json.dumps` puts.

use crate::random::Random;
use crate::text::{self, put, put_time};

const FLAGS: [&str; 12] = [
    "checkout-button-color",
    "new-onboarding-flow",
    "pricing-page-layout",
    "search-ranking-v3",
    "lesson-reminder-time",
    "trial-length-days",
    "recommendations-model",
    "signup-social-proof",
    "dark-mode-default",
    "streak-freeze-offer",
    "paywall-copy",
    "audio-player-v2",
];
const VALUES: [&str; 4] = ["control", "treatment", "treatment-b", "holdout"];
const TIERS: [&str; 3] = ["free", "premium", "family"];
const REASONS: [&str; 3] = ["FALLTHROUGH", "RULE_MATCH", "TARGET_MATCH"];

/// Appends one evaluation.
pub(crate) fn write(out: &mut Vec<u8>, random: &mut Random, at: i64) {
    out.extend_from_slice(b"{\"timestamp\": \"");
    put_time(out, at, "%Y-%m-%dT%H:%M:%S.%6f+00:00");
    let user = text::user(random);
    // Who a user is does not change from event to event.
    let name = text::NAMES[(user % text::NAMES.len() as u64) as usize];
    let tier = TIERS[(user % 7 % 3) as usize];
    let flag = random.zipf(FLAGS.len() as u64);
    let variation = (user.wrapping_mul(flag + 31) >> 3) % if flag.is_multiple_of(3) { 4 } else { 2 };
    let reason = if random.chance(0.8) { REASONS[0] } else { random.pick(&REASONS) };
    put(
        out,
        format_args!(
            "\", \"flag_key\": \"{}\", \"evaluation_context\": {{\"key\": \"user-{user}\", \"kind\": \"user\", \
             \"name\": \"{name}\", \"tier\": \"{tier}\"}}, \"flag_value\": \"{}\", \"variation_index\": {variation}, \
             \"reason_kind\": \"{reason}\", \
             \"metadata\": {{\"source\": \"launchdarkly-python-hook\", \"version\": \"1.0\"}}}}",
            FLAGS[flag as usize], VALUES[variation as usize],
        ),
    );
}
