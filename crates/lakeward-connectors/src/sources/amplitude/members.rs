//! Which members of an archive are which hour's, and in which order.
//!
//! Members are `<project>/<project>_<YYYY-MM-DD>_<H>#<part>.json.gz`, `H`
//! without a leading zero and `part` from 0 to any size (contract, §1.2). A
//! marker `…_complete` holds nothing.

use lakeward_unpack::Member;
use xxhash_rust::xxh3::Xxh3;

use super::hours::{Hour, Window};

/// What a member's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It has no events.
    Marker,
    /// Events of this hour.
    Part(Hour, u64),
    /// Nothing that we know.
    Nothing,
}

/// The file's name: the member's without its first folder, the project.
pub(super) fn file_of(member: &str) -> &str {
    member.split_once('/').map_or(member, |(_, file)| file)
}

fn told(name: &str) -> Told {
    let file = name.rsplit('/').next().unwrap_or(name);
    if file.ends_with("_complete") {
        return Told::Marker;
    }
    let parts = || {
        let (stem, rest) = file.split_once('#')?;
        let (before, hour) = stem.rsplit_once('_')?;
        let (_, date) = before.rsplit_once('_')?;
        let hour = Hour::of_parts(date, hour)?;
        let digits = rest.find('.').map_or(rest, |end| &rest[..end]);
        let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if all { Some((hour, digits.parse().ok()?)) } else { None }
    };
    parts().map_or(Told::Nothing, |(hour, part)| Told::Part(hour, part))
}

/// A member whose name says no hour of the window; only in a window of one
/// hour is it clear whose it is.
pub(super) fn stranger(window: Window, members: &[Member]) -> Option<&str> {
    let of_window = |member: &&Member| match told(&member.name) {
        Told::Marker => true,
        Told::Part(hour, _) => window.has(hour),
        Told::Nothing => false,
    };
    members.iter().find(|member| !of_window(member)).map(|member| member.name.as_str())
}

/// The members of an hour, by part and name: the same order whatever the order
/// in the archive is. All of them are its own if only this hour was asked for.
pub(super) fn of_hour(hour: Hour, window: Window, members: &[Member]) -> Vec<Member> {
    let mut mine: Vec<(u64, Member)> = members
        .iter()
        .filter_map(|member| match told(&member.name) {
            Told::Marker => None,
            Told::Part(of, part) => (window.hours == 1 || of == hour).then(|| (part, member.clone())),
            Told::Nothing => (window.hours == 1).then(|| (0, member.clone())),
        })
        .collect();
    mine.sort_by(|(part, a), (other, b)| (part, &a.name, a.index).cmp(&(other, &b.name, b.index)));
    mine.into_iter().map(|(_, member)| member).collect()
}

/// What tells whether two archives have the same members: names, checksums and
/// sizes of these.
pub(super) fn fingerprint(members: &[Member]) -> u128 {
    let mut hash = Xxh3::new();
    for member in members {
        hash.update(&(member.name.len() as u64).to_le_bytes());
        hash.update(member.name.as_bytes());
        hash.update(&member.crc32.to_le_bytes());
        hash.update(&member.unpacked.to_le_bytes());
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hour(name: &str) -> Hour {
        Hour::named(name).expect("an hour")
    }

    fn member(index: usize, name: &str) -> Member {
        Member { index, name: name.into(), crc32: 1, packed: 2, unpacked: 3 }
    }

    #[test]
    fn names_say_hour_and_part() {
        let check = |name: &str, expect| assert_eq!(told(name), expect, "{name}");
        let part = |name: &str, part| Told::Part(hour(name), part);
        check("203138/203138_2020-11-24_9#627.json.gz", part("2020-11-24T09", 627));
        check("203138/203138_2020-11-24_0#0.json.gz", part("2020-11-24T00", 0));
        check("203138_2020-11-24_17#203138.json.gz", part("2020-11-24T17", 203_138));
        check("a/b/my_project_2020-11-24_23#1.json", part("2020-11-24T23", 1));
        check("203138/203138_2020-11-24_9_complete", Told::Marker);
        for name in
            ["", "x", "203138/", "1_2020-11-24_24#0.json.gz", "1_2020-11-24_9.json.gz", "1_9#0", "a#b"]
        {
            check(name, Told::Nothing);
        }
        check("1_2020-11-24_9#x.json.gz", Told::Nothing);
        check("1_2020-11-24_9#99999999999999999999999.json.gz", Told::Nothing);
        assert_eq!(file_of("203138/203138_2020-11-24_9#0.json.gz"), "203138_2020-11-24_9#0.json.gz");
        assert_eq!(file_of("x.gz"), "x.gz");
    }

    #[test]
    fn parts_are_in_the_order_of_their_numbers() {
        let window = Window { first: hour("2020-11-24T08"), hours: 3 };
        let names = [
            "p/p_2020-11-24_9#10.json.gz",
            "p/p_2020-11-24_9#9.json.gz",
            "p/p_2020-11-24_10#0.json.gz",
            "p/p_2020-11-24_9_complete",
            "p/p_2020-11-24_9#0.json.gz",
        ];
        let members: Vec<Member> = names.iter().enumerate().map(|(i, name)| member(i, name)).collect();
        assert_eq!(stranger(window, &members), None);
        let of = |at| of_hour(hour(at), window, &members).iter().map(|m| m.index).collect::<Vec<_>>();
        assert_eq!(of("2020-11-24T09"), [4, 1, 0]);
        assert_eq!(of("2020-11-24T10"), [2]);
        assert_eq!(of("2020-11-24T08"), [0; 0]);
    }

    #[test]
    fn a_stranger_is_found_and_belongs_to_the_only_hour() {
        let day = Window { first: hour("2020-11-24T00"), hours: 24 };
        let only = Window { first: hour("2020-11-24T05"), hours: 1 };
        for name in ["export.json.gz", "p/p_2020-11-25_0#0.json.gz"] {
            let members = [member(0, "p/p_2020-11-24_5#0.json.gz"), member(1, name)];
            assert_eq!(stranger(day, &members), Some(name));
            assert_eq!(of_hour(only.first, only, &members).len(), 2);
        }
    }

    proptest! {
        #[test]
        fn no_name_panics(name in ".{0,60}") {
            let _ = told(&name);
        }
    }
}
