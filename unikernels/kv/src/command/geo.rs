//! Places, in sorted sets.

use super::call::flag::*;
use super::call::{Call, Command, Group, Keys, Outcome};
use super::error::{Error, Result, shown};
use super::range::store_sorted;
use super::sorted::{Options, add};
use crate::bytes::Bytes;
use crate::geo::{Area, Place};
use crate::number::{parse_f64, parse_i64};
use crate::resp::Protocol;
use crate::value::{ScoreBound, SortedSet};
use alloc::format;
use alloc::vec::Vec;

const ONE: Keys = Keys::Places(1, 1, 1);
const G: Group = Group::Geo;

/// The commands of this family.
pub static COMMANDS: &[Command] = &[
    Command::data("geoadd", -5, WRITE | DENYOOM, ONE, G, geoadd),
    Command::data("geopos", -2, READONLY, ONE, G, geopos),
    Command::data("geohash", -2, READONLY, ONE, G, geohash),
    Command::data("geodist", -4, READONLY, ONE, G, geodist),
    Command::data("geosearch", -7, READONLY, ONE, G, |call| search(call, Form::new(Middle::Named, 1))),
    Command::data("geosearchstore", -8, WRITE | DENYOOM, Keys::Places(1, 2, 1), G, |call| {
        search(call, Form { may_store: true, ..Form::new(Middle::Named, 2) })
    }),
    Command::data("georadius", -6, WRITE | DENYOOM | MOVABLEKEYS, Keys::AndStored, G, |call| {
        search(call, Form { may_store: true, ..Form::new(Middle::Place, 1) })
    }),
    Command::data("georadius_ro", -6, READONLY, ONE, G, |call| search(call, Form::new(Middle::Place, 1))),
    Command::data("georadiusbymember", -5, WRITE | DENYOOM | MOVABLEKEYS, Keys::AndStored, G, |call| {
        search(call, Form { may_store: true, ..Form::new(Middle::Member, 1) })
    }),
    Command::data("georadiusbymember_ro", -5, READONLY, ONE, G, |call| {
        search(call, Form::new(Middle::Member, 1))
    }),
];

/// A place out of two arguments.
fn place(call: &Call<'_>, index: usize) -> Result<Place> {
    let (longitude, latitude) = (call.float(index)?, call.float(index + 1)?);
    let error =
        || Error::Composed(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}"));
    Place::new(longitude, latitude).ok_or_else(error)
}

/// Metres of a unit.
fn unit(word: &[u8]) -> Result<f64> {
    match word.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Error::Text("ERR unsupported unit provided. please use M, KM, FT, MI")),
    }
}

fn geoadd(call: &mut Call<'_>) -> Result<Outcome> {
    let (options, first) = Options::flags(call, &[b"nx", b"xx", b"ch"])?;
    if !(call.args.len() - first).is_multiple_of(3) || options.contradict() {
        return Err(Error::Syntax);
    }
    let mut places = Vec::new();
    for index in (first..call.args.len()).step_by(3) {
        places.push((place(call, index)?.number() as f64, call.arg(index + 2)));
    }
    add(call, &options, places)
}

/// The places of members; `None` for those that are not there.
fn places(call: &mut Call<'_>, members: &[&[u8]]) -> Result<Vec<Option<Place>>> {
    let Some(at) = call.find(call.arg(1)) else { return Ok(members.iter().map(|_| None).collect()) };
    let sorted = call.store.value(at).sorted()?;
    let of_member = |member: &&[u8]| sorted.score(member).map(|score| Place::of_number(score as u64));
    Ok(members.iter().map(of_member).collect())
}

/// A coordinate, with up to 17 decimals.
fn coordinate(call: &mut Call<'_>, degrees: f64) {
    let text = format!("{degrees:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match call.reply.protocol() {
        Protocol::Resp2 => call.reply.bulk(text.as_bytes()),
        Protocol::Resp3 => call.reply.raw(format!(",{text}\r\n").as_bytes()),
    }
}

fn coordinates(call: &mut Call<'_>, place: Place) {
    call.reply.array(2);
    coordinate(call, place.longitude);
    coordinate(call, place.latitude);
}

fn geopos(call: &mut Call<'_>) -> Result<Outcome> {
    let members: Vec<&[u8]> = call.args.from(2).collect();
    let places = places(call, &members)?;
    call.reply.array(places.len());
    for place in places {
        match place {
            Some(place) => coordinates(call, place),
            None => call.reply.null_array(),
        }
    }
    Ok(Outcome::Done)
}

fn geohash(call: &mut Call<'_>) -> Result<Outcome> {
    let members: Vec<&[u8]> = call.args.from(2).collect();
    let places = places(call, &members)?;
    call.reply.array(places.len());
    for place in places {
        call.reply.bulk_or_null(place.map(Place::geohash).as_ref().map(|text| text.as_bytes()));
    }
    Ok(Outcome::Done)
}

fn geodist(call: &mut Call<'_>) -> Result<Outcome> {
    let metres = match call.args.len() {
        4 => 1.0,
        5 => unit(call.arg(4))?,
        _ => return Err(Error::Syntax),
    };
    match places(call, &[call.arg(2), call.arg(3)])?[..] {
        [Some(one), Some(other)] => {
            call.reply.bulk(format!("{:.4}", one.metres_to(other) / metres).as_bytes())
        }
        _ => call.reply.null(),
    }
    Ok(Outcome::Done)
}

/// How a command says around what it searches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Middle {
    /// By the words `FROMMEMBER` or `FROMLONLAT`.
    Named,
    /// By a place.
    Place,
    /// By a member.
    Member,
}

/// A command that searches.
#[derive(Clone, Copy)]
struct Form {
    middle: Middle,
    /// The argument that is the set's key.
    key: usize,
    may_store: bool,
}

impl Form {
    const fn new(middle: Middle, key: usize) -> Form {
        Form { middle, key, may_store: false }
    }

    fn is_search(self) -> bool {
        self.middle == Middle::Named
    }
}

/// What is asked for.
#[derive(Default)]
struct Wish {
    middle: Option<Place>,
    area: Option<Area>,
    /// Metres of the unit in which distances are told.
    unit: f64,
    distance: bool,
    number: bool,
    coordinates: bool,
    /// Whether the farthest come first; `None` if the order is of no interest.
    farthest: Option<bool>,
    count: Option<usize>,
    any: bool,
    stored: Option<usize>,
    stores_distances: bool,
}

/// A length that is not negative, in metres.
fn length(
    call: &Call<'_>,
    index: usize,
    unit: f64,
    what: &'static str,
    negative: &'static str,
) -> Result<f64> {
    let length = parse_f64(call.arg(index)).ok_or(Error::Text(what))?;
    if length < 0.0 { Err(Error::Text(negative)) } else { Ok(length * unit) }
}

impl Wish {
    /// A radius and its unit.
    fn circle(&mut self, call: &Call<'_>, index: usize) -> Result<()> {
        self.unit = 1.0;
        let (what, negative) = ("ERR need numeric radius", "ERR radius cannot be negative");
        length(call, index, 1.0, what, negative)?;
        self.unit = unit(call.arg(index + 1))?;
        self.area = Some(Area::Circle(length(call, index, self.unit, what, negative)?));
        Ok(())
    }

    /// Width, height and their unit.
    fn rectangle(&mut self, call: &Call<'_>, index: usize) -> Result<()> {
        let negative = "ERR height or width cannot be negative";
        let (width, height) = ("ERR need numeric width", "ERR need numeric height");
        let number = |index: usize, what| parse_f64(call.arg(index)).ok_or(Error::Text(what));
        let (width, height) = (number(index, width)?, number(index + 1, height)?);
        if width < 0.0 || height < 0.0 {
            return Err(Error::Text(negative));
        }
        self.unit = unit(call.arg(index + 2))?;
        self.area = Some(Area::Box(width * self.unit, height * self.unit));
        Ok(())
    }

    /// The place of a member of a set that is there.
    fn member(&mut self, sorted: Option<&SortedSet>, member: &[u8]) -> Result<()> {
        let Some(sorted) = sorted else { return Ok(()) };
        let score = sorted.score(member).ok_or(Error::Text("ERR could not decode requested zset member"))?;
        self.middle = Some(Place::of_number(score as u64));
        Ok(())
    }

    fn parse(call: &Call<'_>, form: Form, sorted: Option<&SortedSet>) -> Result<Wish> {
        let mut wish = Wish { unit: 1.0, ..Wish::default() };
        let mut index = match form.middle {
            Middle::Named => form.key + 1,
            Middle::Place => {
                wish.middle = Some(place(call, 2)?);
                wish.circle(call, 4)?;
                6
            }
            Middle::Member => {
                wish.member(sorted, call.arg(2))?;
                if sorted.is_some() {
                    wish.circle(call, 3)?;
                }
                5
            }
        };
        let (mut middles, mut areas) = (0, 0);
        while let Some(word) = call.args.get(index) {
            let left = call.args.len() - index - 1;
            match word.to_ascii_lowercase().as_slice() {
                b"withdist" => wish.distance = true,
                b"withhash" => wish.number = true,
                b"withcoord" => wish.coordinates = true,
                b"any" => wish.any = true,
                b"asc" => wish.farthest = Some(false),
                b"desc" => wish.farthest = Some(true),
                b"count" if left > 0 => {
                    let count = parse_i64(call.arg(index + 1)).ok_or(Error::NotAnInteger)?;
                    let count = usize::try_from(count).ok().filter(|count| *count > 0);
                    wish.count = Some(count.ok_or(Error::Text("ERR COUNT must be > 0"))?);
                    index += 1;
                }
                b"store" | b"storedist" if left > 0 && form.may_store && !form.is_search() => {
                    wish.stored = Some(index + 1);
                    wish.stores_distances = word.len() > 5;
                    index += 1;
                }
                b"storedist" if form.may_store && form.is_search() => wish.stores_distances = true,
                b"frommember" if left > 0 && form.is_search() && middles == 0 => {
                    wish.member(sorted, call.arg(index + 1))?;
                    middles += 1;
                    index += 1;
                }
                b"fromlonlat" if left > 1 && form.is_search() && middles == 0 => {
                    wish.middle = Some(place(call, index + 1)?);
                    middles += 1;
                    index += 2;
                }
                b"byradius" if left > 1 && form.is_search() && areas == 0 => {
                    wish.circle(call, index + 1)?;
                    areas += 1;
                    index += 2;
                }
                b"bybox" if left > 2 && form.is_search() && areas == 0 => {
                    wish.rectangle(call, index + 1)?;
                    areas += 1;
                    index += 3;
                }
                _ => return Err(Error::Syntax),
            }
            index += 1;
        }
        if form.is_search() && form.may_store {
            wish.stored = Some(1);
        }
        wish.judge(call, form, middles, areas)
    }

    /// Refuses what does not go together.
    fn judge(mut self, call: &Call<'_>, form: Form, middles: usize, areas: usize) -> Result<Wish> {
        let name = || shown(call.arg(0));
        if self.stored.is_some() && (self.distance || self.number || self.coordinates) {
            let what = if form.is_search() { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            let text = format!("ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options");
            return Err(Error::Composed(text));
        }
        if form.is_search() && middles != 1 {
            let text = format!("ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}", name());
            return Err(Error::Composed(text));
        }
        if form.is_search() && areas != 1 {
            let text = format!("ERR exactly one of BYRADIUS and BYBOX can be specified for {}", name());
            return Err(Error::Composed(text));
        }
        if self.any && self.count.is_none() {
            return Err(Error::Text("ERR the ANY argument requires COUNT argument"));
        }
        if self.count.is_some() && !self.any {
            // The nearest are wanted.
            self.farthest.get_or_insert(false);
        }
        Ok(self)
    }
}

/// A member that was found.
struct Found {
    member: Bytes,
    score: f64,
    metres: f64,
}

/// Members in the area, in the order of their scores unless another is wanted.
fn members(wish: &Wish, sorted: &SortedSet) -> Vec<Found> {
    let (Some(middle), Some(area)) = (wish.middle, wish.area) else { return Vec::new() };
    let most = wish.count.filter(|_| wish.any).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for numbers in area.numbers(middle) {
        let bound = |number: u64, exclusive| ScoreBound { score: number as f64, exclusive };
        let ranks = sorted.by_score(bound(numbers.start, false), bound(numbers.end, true));
        sorted.visit(ranks, false, |member, score| {
            let metres = area.metres(middle, Place::of_number(score as u64));
            if let Some(metres) = metres.filter(|_| found.len() < most) {
                found.push(Found { member: member.clone(), score, metres });
            }
        });
    }
    match wish.farthest {
        Some(false) => found.sort_by(|one, other| one.metres.total_cmp(&other.metres)),
        Some(true) => found.sort_by(|one, other| other.metres.total_cmp(&one.metres)),
        None => {}
    }
    found.truncate(wish.count.unwrap_or(usize::MAX));
    found
}

fn search(call: &mut Call<'_>, form: Form) -> Result<Outcome> {
    let at = call.find(call.arg(form.key));
    let sorted = at.map(|at| call.store.value(at).sorted()).transpose()?;
    let wish = Wish::parse(call, form, sorted)?;
    let found = sorted.map(|sorted| members(&wish, sorted)).unwrap_or_default();
    match wish.stored {
        None => reply(call, &wish, &found),
        Some(index) => {
            let mut result = SortedSet::new(call.store.hash_key());
            let compact = call.store.compact;
            for one in &found {
                let score = if wish.stores_distances { one.metres / wish.unit } else { one.score };
                result.set(&one.member, score, &compact);
            }
            store_sorted(call, call.arg(index), result);
        }
    }
    Ok(Outcome::Done)
}

fn reply(call: &mut Call<'_>, wish: &Wish, found: &[Found]) {
    let more = usize::from(wish.distance) + usize::from(wish.number) + usize::from(wish.coordinates);
    call.reply.array(found.len());
    for one in found {
        if more > 0 {
            call.reply.array(1 + more);
        }
        call.reply.bulk(&one.member);
        if wish.distance {
            call.reply.bulk(format!("{:.4}", one.metres / wish.unit).as_bytes());
        }
        if wish.number {
            call.reply.integer(one.score as i64);
        }
        if wish.coordinates {
            coordinates(call, Place::of_number(one.score as u64));
        }
    }
}
