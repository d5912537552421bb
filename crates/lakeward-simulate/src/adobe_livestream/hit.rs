//! Hits, as Livestream has them (contract §4.3: Adobe's field reference and its
//! sample, which disagree on types; both are found here).

use std::fmt::Write;

use crate::random::Random;

/// For what a seed is drawn.
const FOR_ID: u64 = 1;
const FOR_HIT: u64 = 2;
const FOR_VISITOR: u64 = 3;

/// Visitors of the site.
const VISITORS: u64 = 20_000;

const PAGES: [&str; 8] = [
    "Home",
    "Search ~ results",
    "Men \\\"Sale\\\"",
    "Kinder & Schuhe – Größe 38",
    "checkout:payment",
    "Line one\\nline two",
    "日本語のページ",
    "Product, detail",
];
const BROWSERS: [(&str, &str); 4] = [
    ("Google Chrome 32.0", "Google"),
    ("Mozilla Firefox 128.0", "Mozilla"),
    ("Safari 17.4", "Apple"),
    ("Microsoft Edge 126.0", "Microsoft"),
];
const PLACES: [(&str, &str, &str, &str); 4] = [
    ("paris", "fra", "j", "75001"),
    ("münchen", "deu", "by", "80331"),
    ("new york", "usa", "ny", "10001"),
    ("são paulo", "bra", "sp", "01000-000"),
];

/// The two halves of a hit's id: 64 bits each, and often beyond what a signed
/// number holds.
pub(super) fn id(seed: u64, number: u64) -> (u64, u64) {
    let mut random = Random::of(&[seed, FOR_ID, number]);
    (random.next(), random.next())
}

/// The visitor of a hit; a visitor's hits come over one connection.
pub(super) fn visitor(seed: u64, number: u64) -> u64 {
    Random::of(&[seed, FOR_VISITOR, number]).below(VISITORS)
}

/// Writes a hit that was received at `at`, in seconds since 1970.
pub(super) fn write(seed: u64, number: u64, at: i64, out: &mut String) {
    let mut random = Random::of(&[seed, FOR_HIT, number]);
    let draw = &mut random;
    let (high, low) = id(seed, number);
    let visitor = visitor(seed, number);
    let (browser, maker) = *draw.pick(&BROWSERS);
    let (city, country, region, zip) = *draw.pick(&PLACES);
    let page = *draw.pick(&PAGES);
    let is_bot = draw.chance(2);
    let width = draw.between(320, 2560);
    let bot = if is_bot { "<Bot>" } else { "<Not a bot>" };
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{{\"bot\":\"{bot}\",\"browser\":\"{browser}\",\"browserHeight\":{},\"browserType\":\"{maker}\",\
         \"browserWidth\":{width},\"carrier\":\"{}\",\"connectionType\":\"LAN/WiFi\",\"currency\":\"USD\",\
         \"customVisId\":\"{}\",\"domain\":\"sfr.net\",",
        width * 3 / 4,
        if draw.chance(30) { "AT&T" } else { "" },
        if draw.chance(20) { visitor.to_string() } else { String::new() },
    );
    evars(draw, out);
    let is_order = draw.chance(5);
    let lines = if is_order || draw.chance(30) { draw.between(1, 3) } else { 0 };
    let cents: Vec<u64> = (0..lines).map(|_| draw.between(1, 500_000)).collect();
    events(draw, is_order, &cents, out);
    let excluded =
        if draw.chance(1) { ("\"4\"", "yes", "exclude by ip") } else { ("\"0\"", "no", "include") };
    // Text in the sample, a number in the reference.
    let exclude_id = if draw.chance(50) { excluded.0 } else { excluded.0.trim_matches('"') };
    let _ = write!(
        out,
        ",\"exclude\":{{\"id\":{exclude_id},\"value\":\"{}\",\"description\":\"{}\"}},\"geoCity\":\"{city}\",\
         \"geoCountry\":\"{country}\",\"geoDMA\":{},\"geoRegion\":\"{region}\",\"geoZip\":\"{zip}\",",
        excluded.1,
        excluded.2,
        draw.below(900),
    );
    let _ = match draw.below(3) {
        0 => write!(
            out,
            "\"hierarchies\":{{\"site-hier\":{{\"delim\":58,\"values\":\"home page:clothing:mens\"}}}},"
        ),
        1 => write!(
            out,
            "\"hierarchies\":{{\"site-hier\":{{\"delim\":58,\"values\":[\"home page\",\"clothing\"]}}}},"
        ),
        _ => write!(out, "\"hierarchies\":{{}},"),
    };
    ids(draw, high, low, out);
    let _ = write!(
        out,
        "\"hitSource\":{},\"homePage\":\"\",\"ip\":\"91.71.{}.{}\",\"isErrorPage\":\"\",\"javaEnabled\":{},\
         \"javascriptVersion\":\"1.6\",\"language\":\"English\",\"languageAbbrev\":\"en-US\",",
        if draw.chance(2) { 5 } else { 1 },
        draw.below(256),
        draw.below(256),
        draw.chance(50),
    );
    more(draw, visitor, page, number, out);
    products(draw, &cents, out);
    let _ = write!(out, ",\"props\":{{\"prop1\":\"{page}\",\"prop2\":\"\",\"site_section\":\"shop\"}},");
    let purchase = if is_order { format!("P{number:012}") } else { String::new() };
    let latency = draw.below(30) as i64;
    let _ = write!(
        out,
        "\"purchaseId\":\"{purchase}\",\"receivedTimeGMT\":{at},\"referrer\":\"http://example.com/page{}.html\",\
         \"reportSuite\":\"examplecomprod\",\"searchEngine\":\"{}\",\"service\":\"ss\",\"state\":\"\",\
         \"timeGMT\":{},\"topLevelDomain\":\".net\",\
         \"tnt\":[{{\"campaignId\":\"13234\",\"recipeId\":\"23\",\"trafficType\":\"0\",\"actionId\":\"\",\"actionName\":\"\"}}],\
         \"transactionId\":\"\",\"truncated\":false,\"userAgent\":\"\",\"usesPersistentCookie\":{},",
        draw.below(10_000),
        if draw.chance(20) { "Google" } else { "" },
        at - latency,
        draw.below(3),
    );
    let _ = write!(
        out,
        "\"visIdHigh\":{},\"visIdLow\":{},\"visIdType\":{}",
        Random::of(&[seed, visitor]).next(),
        Random::of(&[seed, visitor, 1]).next(),
        draw.between(1, 5),
    );
    if draw.chance(3) {
        // Adobe adds fields without notice.
        let _ = write!(out, ",\"fieldOf2027\":{{\"x\":{number}}}");
    }
    out.push('}');
}

/// `{"evars":{"evars":{…}}}`, nested twice, with old and new spellings.
fn evars(draw: &mut Random, out: &mut String) {
    let _ = write!(
        out,
        "\"evars\":{{\"evars\":{{\"campaign\":\"DFA:172612:{}\",\"evar1\":\"Summer Shoe Promo\",\"{}\":\"{}\",\"evar75\":\"\"}}}},",
        draw.below(1_000_000),
        if draw.chance(10) { "eVar2" } else { "evar2" },
        draw.below(100),
    );
}

/// A number is `count` times ten to the power of `exponent`; an event can have
/// several instances in one hit.
fn events(draw: &mut Random, is_order: bool, cents: &[u64], out: &mut String) {
    let _ = write!(
        out,
        "\"events\":{{\"event1\":[{{\"count\":{},\"exponent\":0,\"unique\":\"\"}}]",
        draw.between(1, 3)
    );
    if draw.chance(20) {
        let (first, second) = (draw.between(1, 99_999), draw.between(1, 999));
        let _ = write!(
            out,
            ",\"event20\":[{{\"count\":{first},\"exponent\":-2,\"unique\":\"\"}},{{\"count\":{second},\"exponent\":1,\"unique\":\"s1\"}}]"
        );
    }
    if is_order {
        let total: u64 = cents.iter().sum();
        let _ = write!(
            out,
            ",\"revenue\":[{{\"count\":{total},\"exponent\":-2,\"unique\":\"\"}}],\"orders\":[{{\"count\":\"1\",\"exponent\":\"0\",\"unique\":\"\"}}]"
        );
    } else if !cents.is_empty() {
        let _ =
            write!(out, ",\"productViews\":[{{\"count\":{},\"exponent\":0,\"unique\":\"\"}}]", cents.len());
    }
    out.push('}');
}

fn products(draw: &mut Random, cents: &[u64], out: &mut String) {
    out.push_str("\"products\":[");
    for (index, cents) in cents.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let _ = write!(
            out,
            "{{\"category\":\"Clothing\",\"evars\":{{}},\"events\":{{\"event61\":[{{\"count\":3,\"exponent\":0,\"unique\":\"\"}}]}},\
             \"name\":\"Mens Black ~ Shoes {index}\",\"revenue\":{cents},\"units\":{}}}",
            draw.between(1, 9)
        );
    }
    out.push(']');
}

/// Ids are numbers mostly, and text now and then.
fn ids(draw: &mut Random, high: u64, low: u64, out: &mut String) {
    let _ = if draw.chance(10) {
        write!(out, "\"hitIdHigh\":\"{high}\",\"hitIdLow\":\"{low}\",")
    } else {
        write!(out, "\"hitIdHigh\":{high},\"hitIdLow\":{low},")
    };
}

fn more(draw: &mut Random, visitor: u64, page: &str, number: u64, out: &mut String) {
    if draw.chance(40) {
        let (high, low) = (Random::of(&[visitor, 7]).next() >> 1, Random::of(&[visitor, 8]).next() >> 1);
        let _ = write!(
            out,
            "\"mcVisIdHigh\":{high},\"mcVisIdLow\":{low},\"mcAudiences\":{{\"values\":[\"a{visitor}\"],\"delim\":44}},"
        );
    }
    if draw.chance(30) {
        let _ = write!(
            out,
            "\"mobileAudioSupport\":\"MP3\",\"mobileDeviceName\":\"Phone {}\",\"mobileManufacturer\":\"Acme\",\"mobileScreenHeight\":{},\"mobileScreenWidth\":390,",
            draw.below(20),
            draw.between(600, 2000)
        );
    }
    let _ = write!(
        out,
        "\"monitorColorDepth\":\"16 million colors\",\"monitorHeight\":1080,\"monitorWidth\":1920,\
         \"mvvars\":{{\"1\":{{\"m\":{{\"values\":[\"event_category:summer sale\",\"event_type:click\"],\"delim\":44}}}}}},\
         \"operatingSystem\":\"Macintosh\",\"pageName\":\"{page}\",\"pageURL\":\"http://example.com/page{number}.html\","
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hit_is_json_with_its_id_and_has_no_line_end() {
        let mut beyond = 0;
        for number in 0..2_000 {
            let mut text = String::new();
            write(7, number, 1_780_000_000, &mut text);
            let hit: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(!text.contains(['\r', '\n']), "{text}");
            let (high, low) = id(7, number);
            let number = |field: &serde_json::Value| {
                field.as_u64().or_else(|| field.as_str()?.parse().ok()).expect("an id")
            };
            assert_eq!((number(&hit["hitIdHigh"]), number(&hit["hitIdLow"])), (high, low));
            beyond += u64::from(i64::try_from(high).is_err());
            assert!(hit["events"]["event1"][0]["count"].is_u64());
            assert!(hit["evars"]["evars"]["campaign"].is_string());
        }
        assert!(beyond > 500, "{beyond}");
        let (mut one, mut same, mut other) = (String::new(), String::new(), String::new());
        write(7, 5, 0, &mut one);
        write(7, 5, 0, &mut same);
        write(8, 5, 0, &mut other);
        assert!(one == same && one != other);
    }
}
