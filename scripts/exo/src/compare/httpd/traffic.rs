//! A site, and what is asked of it: the same for everybody, whatever the machine.

use super::TRAFFIC_SEED;
use crate::served::client::Exchange;
use std::ops::Range;
use std::str::FromStr;

/// Small files: from half a KiB to 64 KiB, as many of each power of two.
const SMALL: usize = 1200;
/// Large files, and bytes of each.
const LARGE: usize = 40;
const LARGE_BYTES: u64 = 256 * 1024;
/// Files of 1 KiB.
const PAGES: usize = 16;
/// Files of 64 KiB.
const PICTURES: usize = 8;
/// Of a thousand requests, how many are for large files.
const LARGE_PER_MILLE: u64 = 6;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Small files by Zipf's law, and a few large ones.
    Popular,
    /// Files of 1 KiB in turn.
    Pages,
    /// Files of 64 KiB in turn.
    Pictures,
    /// Parts of large files: from 4 to 32 KiB, anywhere.
    Ranges,
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 4] = [Workload::Popular, Workload::Pages, Workload::Pictures, Workload::Ranges];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Popular => "popular",
            Workload::Pages => "1k",
            Workload::Pictures => "64k",
            Workload::Ranges => "ranges",
        }
    }

    /// How many requests it is unless it is to be quick.
    fn requests(self) -> usize {
        match self {
            Workload::Popular => 6000,
            Workload::Pages => 2000,
            Workload::Pictures => 600,
            Workload::Ranges => 2000,
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> Result<Workload, String> {
        let names = || Workload::ALL.map(Workload::name).join(", ");
        let known = Workload::ALL.into_iter().find(|workload| workload.name() == name);
        known.ok_or_else(|| format!("there are: {}", names()))
    }
}

/// Random numbers (S. Vigna's splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % limit.max(1)
    }
}

/// A file of the site.
pub struct Page {
    /// Its path, without `/` at the start.
    pub path: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of the page.
    page: usize,
    /// The part of it that is asked for, if it is not the whole.
    part: Option<Range<usize>>,
}

/// The site.
pub struct Site {
    /// Its files: small ones, large ones, pages, pictures.
    pub pages: Vec<Page>,
}

impl Site {
    /// Makes it.
    pub fn new() -> Site {
        let mut sizes = Random(TRAFFIC_SEED);
        let mut small = || {
            let base = 512 << sizes.below(7);
            base + sizes.below(base)
        };
        let named = (0..SMALL).map(|number| (format!("small/{number:04}"), small())).collect::<Vec<_>>();
        let same = |folder: &'static str, count: usize, bytes: u64| {
            (0..count).map(move |number| (format!("{folder}/{number:02}"), bytes))
        };
        let all = named
            .into_iter()
            .chain(same("large", LARGE, LARGE_BYTES))
            .chain(same("page", PAGES, 1024))
            .chain(same("picture", PICTURES, 64 * 1024));
        let pages =
            all.enumerate().map(|(number, (path, bytes))| Page { path, bytes: contents(number, bytes) });
        Site { pages: pages.collect() }
    }

    /// Blocks of all files.
    pub fn blocks(&self) -> u64 {
        let block = hyperexo_abi::BLOCK_BYTES;
        self.pages.iter().map(|page| page.bytes.len().div_ceil(block) as u64).sum()
    }

    /// The requests of a workload, in order; a tenth of them if it is to be quick.
    pub fn requests(workload: Workload, quick: bool) -> Vec<Request> {
        let mut random = Random(TRAFFIC_SEED + 1);
        // Zipf's law with exponent 1 takes no more than integers.
        let weights: Vec<u64> = (1..=SMALL as u64)
            .scan(0, |sum, place| {
                *sum += (1 << 32) / place;
                Some(*sum)
            })
            .collect();
        let total = weights[SMALL - 1];
        let count = workload.requests() / if quick { 10 } else { 1 };
        let whole = |page| Request { page, part: None };
        let one = |number: usize| match workload {
            Workload::Popular if random.below(1000) < LARGE_PER_MILLE => {
                whole(SMALL + random.below(LARGE as u64) as usize)
            }
            Workload::Popular => {
                let chosen = random.below(total);
                whole(weights.partition_point(|sum| *sum <= chosen))
            }
            Workload::Pages => whole(SMALL + LARGE + number % PAGES),
            Workload::Pictures => whole(SMALL + LARGE + PAGES + number % PICTURES),
            Workload::Ranges => {
                let (page, bytes) = (SMALL + random.below(LARGE as u64) as usize, 4096 << random.below(4));
                let start = random.below(LARGE_BYTES - bytes) as usize;
                Request { page, part: Some(start..start + bytes as usize) }
            }
        };
        (0..count).map(one).collect()
    }

    /// A request as it is made, and what has to be answered.
    pub fn exchange(&self, request: &Request) -> Exchange<'_> {
        let Page { path, bytes } = &self.pages[request.page];
        let (status, body, range) = match &request.part {
            None => (200, &bytes[..], String::new()),
            Some(part) => {
                let range = format!("Range: bytes={}-{}\r\n", part.start, part.end - 1);
                (206, &bytes[part.clone()], range)
            }
        };
        let request = format!("GET /{path} HTTP/1.1\r\nHost: site\r\n{range}\r\n").into_bytes();
        Exchange { request, status, body }
    }

    /// Bytes of the bodies of all answers.
    pub fn bytes(&self, requests: &[Request]) -> u64 {
        requests.iter().map(|request| self.exchange(request).body.len() as u64).sum()
    }
}

/// Contents of the file with this number: no block of the site is like another.
fn contents(number: usize, bytes: u64) -> Vec<u8> {
    let mut random = Random(number as u64);
    let words = (0..bytes.div_ceil(8)).flat_map(|_| random.below(u64::MAX).to_le_bytes());
    words.take(bytes as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_and_its_requests_are_the_same_each_time() {
        let (one, other) = (Site::new(), Site::new());
        assert!(one.pages.iter().zip(&other.pages).all(|(one, other)| one.bytes == other.bytes));
        assert_eq!(one.pages.len(), SMALL + LARGE + PAGES + PICTURES);
        let largest = one.pages[..SMALL].iter().map(|page| page.bytes.len()).max();
        assert!(largest.is_some_and(|bytes| (32 * 1024..=64 * 1024).contains(&bytes)), "{largest:?}");
        for workload in Workload::ALL {
            let all = Site::requests(workload, false);
            assert_eq!(all, Site::requests(workload, false));
            assert_eq!(all.len(), workload.requests());
            assert_eq!(Site::requests(workload, true), all[..all.len() / 10]);
            assert_eq!(workload.name().parse(), Ok(workload));
        }
        assert!("2k".parse::<Workload>().unwrap_err().contains("popular, 1k"));
    }

    #[test]
    fn the_first_file_is_asked_for_most_and_large_ones_rarely() {
        let requests = Site::requests(Workload::Popular, false);
        let of =
            |wanted: Range<usize>| requests.iter().filter(|request| wanted.contains(&request.page)).count();
        assert!(of(0..1) > 600 && of(0..1) > of(1..2) && of(1..2) > of(50..51));
        let large = of(SMALL..SMALL + LARGE);
        assert!((20..60).contains(&large) && of(SMALL + LARGE..usize::MAX) == 0, "{large}");
    }

    #[test]
    fn parts_are_asked_for_as_they_are_answered() {
        let site = Site::new();
        let request = Request { page: SMALL, part: Some(10..20) };
        let exchange = site.exchange(&request);
        assert!(
            String::from_utf8_lossy(&exchange.request)
                .contains("/large/00 HTTP/1.1\r\nHost: site\r\nRange: bytes=10-19\r\n\r\n")
        );
        assert_eq!((exchange.status, exchange.body), (206, &site.pages[SMALL].bytes[10..20]));
        assert_eq!(
            site.bytes(&[request, Request { page: 0, part: None }]),
            10 + site.pages[0].bytes.len() as u64
        );
    }
}
