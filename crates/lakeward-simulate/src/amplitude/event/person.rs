//! Who sends events: the same person has the same device, place and age in
//! every hour. All texts are as they stand in JSON, escapes included.

use crate::amplitude::plan::purpose;
use crate::random::Random;

/// People of a project.
const PEOPLE: u64 = 20_000;

/// What devices say of themselves; a dash is null.
pub(super) struct Device {
    pub(super) platform: &'static str,
    pub(super) os_name: &'static str,
    pub(super) os_version: &'static str,
    pub(super) family: &'static str,
    pub(super) kind: &'static str,
    pub(super) model: &'static str,
    pub(super) maker: &'static str,
    pub(super) brand: &'static str,
    pub(super) carrier: &'static str,
    pub(super) library: &'static str,
}

const DEVICES: [Device; 5] = [
    Device {
        platform: "Web",
        os_name: "Chrome",
        os_version: "138",
        family: "Mac OS X",
        kind: "Mac",
        model: "Mac OS",
        maker: "Apple Inc.",
        brand: "-",
        carrier: "-",
        library: "amplitude-ts/2.11.0",
    },
    Device {
        platform: "iOS",
        os_name: "ios",
        os_version: "19.2.1",
        family: "Apple iPhone",
        kind: "Apple iPhone 17",
        model: "iPhone18,3",
        maker: "Apple",
        brand: "Apple",
        carrier: "T-Mobile \\\"US\\\"",
        library: "amplitude-swift/1.13.2",
    },
    Device {
        platform: "Android",
        os_name: "android",
        os_version: "16",
        family: "Samsung Galaxy Phone",
        kind: "Samsung Galaxy S25",
        model: "SM-S931B",
        maker: "samsung",
        brand: "samsung",
        carrier: "Vivo\\u00ae",
        library: "amplitude-kotlin/1.20.4",
    },
    Device {
        platform: "Web",
        os_name: "Firefox",
        os_version: "151.0",
        family: "Windows",
        kind: "Windows",
        model: "Windows",
        maker: "-",
        brand: "-",
        carrier: "-",
        library: "segment",
    },
    Device {
        platform: "-",
        os_name: "-",
        os_version: "-",
        family: "-",
        kind: "-",
        model: "-",
        maker: "-",
        brand: "-",
        carrier: "-",
        library: "http/2.0",
    },
];

/// Where people are.
pub(super) struct Place {
    pub(super) country: &'static str,
    pub(super) region: &'static str,
    pub(super) city: &'static str,
    pub(super) dma: &'static str,
    pub(super) language: &'static str,
    pub(super) lat: &'static str,
    pub(super) lng: &'static str,
}

const PLACES: [Place; 6] = [
    Place {
        country: "Canada",
        region: "Newfoundland and Labrador",
        city: "St. John's",
        dma: "-",
        language: "English",
        lat: "47.5615",
        lng: "-52.7126",
    },
    Place {
        country: "United States",
        region: "California",
        city: "San Francisco",
        dma: "San Francisco-Oakland-San Jose, CA",
        language: "English",
        lat: "-",
        lng: "-",
    },
    Place {
        country: "Brazil",
        region: "São Paulo",
        city: "São Paulo",
        dma: "-",
        language: "Portuguese",
        lat: "-23.5505",
        lng: "-46.6333",
    },
    Place {
        country: "Japan",
        region: "Tokyo",
        city: "東京",
        dma: "-",
        language: "Japanese",
        lat: "35.6762",
        lng: "139.6503",
    },
    Place {
        country: "Germany",
        region: "Land Berlin",
        city: "Berlin",
        dma: "-",
        language: "German",
        lat: "-",
        lng: "-",
    },
    Place { country: "-", region: "-", city: "-", dma: "-", language: "-", lat: "-", lng: "-" },
];

/// One of the people.
pub(super) struct Person {
    pub(super) number: u64,
    /// Has logged in, so there is a user id.
    pub(super) known: bool,
    pub(super) device: &'static Device,
    pub(super) place: &'static Place,
    pub(super) device_id: uuid::Uuid,
    pub(super) paying: bool,
    /// Days before the event that they came first.
    pub(super) age_days: i64,
    pub(super) role: &'static str,
}

impl Person {
    pub(super) fn draw(seed: u64, event: &mut Random) -> Self {
        let number = event.below(PEOPLE);
        let mut random = Random::of(&[seed, purpose::PERSON, number]);
        Self {
            number,
            known: random.chance(70),
            device: random.pick(&DEVICES),
            place: random.pick(&PLACES),
            device_id: uuid::Uuid::from_u64_pair(random.next(), random.next()),
            paying: random.chance(15),
            age_days: random.below(900).cast_signed(),
            role: *random.pick(&["Member", "Admin", "Teacher \\\"lead\\\"", "गुरु"]),
        }
    }
}
