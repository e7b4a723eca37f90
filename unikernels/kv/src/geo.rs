//! Places on the earth as numbers whose order keeps neighbours together: those that Redis has as scores.
//!
//! A place has 26 bits of its longitude and 26 of its latitude, in turn, the longitude's first: cells of a
//! quarter of the size of the one before it (G. M. Morton, "A computer oriented geodetic data base", IBM
//! 1966). Latitudes end at 85.05 degrees, as in Mercator's projection (EPSG:900913).

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// Bits of each of the two coordinates.
const STEP: u32 = 26;
/// Longitudes, in degrees.
const LONGITUDES: (f64, f64) = (-180.0, 180.0);
/// Latitudes.
const LATITUDES: (f64, f64) = (-85.051_128_78, 85.051_128_78);
/// Metres from the centre of the earth to its surface, as Redis has them.
const RADIUS_M: f64 = 6_372_797.560_856;

/// A place, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// East of Greenwich.
    pub longitude: f64,
    /// North of the equator.
    pub latitude: f64,
}

/// Part of a range, in steps.
fn offset(value: f64, range: (f64, f64)) -> u32 {
    ((value - range.0) / (range.1 - range.0) * f64::from(1_u32 << STEP)) as u32
}

/// The middle of a step of a range.
fn middle(step: u32, range: (f64, f64)) -> f64 {
    let at = |step: u32| range.0 + f64::from(step) / f64::from(1_u32 << STEP) * (range.1 - range.0);
    ((at(step) + at(step + 1)) / 2.0).clamp(range.0, range.1)
}

/// Bits with a zero before each.
fn spread(bits: u32) -> u64 {
    (0..STEP).fold(0, |spread, bit| spread | u64::from(bits >> bit & 1) << (2 * bit))
}

/// Every other bit.
fn gathered(bits: u64) -> u32 {
    (0..STEP).fold(0, |gathered, bit| gathered | ((bits >> (2 * bit) & 1) as u32) << bit)
}

impl Place {
    /// A place, if there is one.
    pub fn new(longitude: f64, latitude: f64) -> Option<Place> {
        let within = |value: f64, range: (f64, f64)| (range.0..=range.1).contains(&value);
        (within(longitude, LONGITUDES) && within(latitude, LATITUDES))
            .then_some(Place { longitude, latitude })
    }

    /// Its number, of 52 bits.
    pub fn number(self) -> u64 {
        spread(offset(self.longitude, LONGITUDES)) << 1 | spread(offset(self.latitude, LATITUDES))
    }

    /// The middle of the cell with a number.
    pub fn of_number(number: u64) -> Place {
        let longitude = middle(gathered(number >> 1), LONGITUDES);
        Place { longitude, latitude: middle(gathered(number), LATITUDES) }
    }

    /// The eleven letters of the usual geohash, the last of which is always 0.
    pub fn geohash(self) -> String {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let number =
            spread(offset(self.longitude, LONGITUDES)) << 1 | spread(offset(self.latitude, (-90.0, 90.0)));
        let letter = |at: u32| if at == 10 { 0 } else { number >> (2 * STEP - 5 * (at + 1)) & 31 };
        (0..11).map(|at| char::from(LETTERS[letter(at) as usize])).collect()
    }

    /// Metres north or south to another.
    pub fn metres_by_latitude(self, other: Place) -> f64 {
        RADIUS_M * libm::fabs(other.latitude.to_radians() - self.latitude.to_radians())
    }

    /// Metres to another on a great circle, by haversines.
    pub fn metres_to(self, other: Place) -> f64 {
        let half = |one: f64, other: f64| libm::sin((other.to_radians() - one.to_radians()) / 2.0);
        let (u, v) = (half(self.latitude, other.latitude), half(self.longitude, other.longitude));
        if v == 0.0 {
            return self.metres_by_latitude(other);
        }
        let across = libm::cos(self.latitude.to_radians()) * libm::cos(other.latitude.to_radians()) * v * v;
        2.0 * RADIUS_M * libm::asin(libm::sqrt(u * u + across))
    }
}

/// What lies around a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Area {
    /// Within so many metres.
    Circle(f64),
    /// Within half of so many metres to the east or west, and to the north or south.
    Box(f64, f64),
}

impl Area {
    /// Metres from the middle to a place, if that is inside.
    pub fn metres(self, middle: Place, place: Place) -> Option<f64> {
        match self {
            Area::Circle(radius) => Some(middle.metres_to(place)).filter(|metres| *metres <= radius),
            Area::Box(width, height) => {
                if middle.metres_by_latitude(place) > height / 2.0 {
                    return None;
                }
                let beside = Place { longitude: middle.longitude, ..place };
                (place.metres_to(beside) <= width / 2.0).then(|| middle.metres_to(place))
            }
        }
    }

    /// Ranges of numbers that hold all places inside, and others: a few, in order.
    pub fn numbers(self, middle: Place) -> Vec<Range<u64>> {
        let (width, height) = match self {
            Area::Circle(radius) => (2.0 * radius, 2.0 * radius),
            Area::Box(width, height) => (width, height),
        };
        let latitude = (height / 2.0 / RADIUS_M).to_degrees();
        let (south, north) = (middle.latitude - latitude, middle.latitude + latitude);
        // A degree of longitude is shortest where it is farthest from the equator. The little more is for the
        // middle of a cell, which is what is measured, and for rounding.
        let farthest = libm::cos(libm::fmax(libm::fabs(south), libm::fabs(north)).min(90.0).to_radians());
        let longitude = (width / 2.0 / RADIUS_M / farthest.max(1e-9)).to_degrees() * 1.001 + 1e-5;
        let longitudes = match longitude < 180.0 {
            true => (middle.longitude - longitude, middle.longitude + longitude),
            false => LONGITUDES,
        };
        let window = Window { longitudes, latitudes: (south - 1e-5, north + 1e-5) };
        let mut ranges = Vec::new();
        window.cover(0, 0, &mut ranges);
        ranges
    }
}

/// Degrees that are looked at. Longitudes may go beyond 180 degrees: then they go on from the other side.
struct Window {
    longitudes: (f64, f64),
    latitudes: (f64, f64),
}

impl Window {
    /// Adds the numbers of a cell of so many steps, or of those cells in it that are of interest.
    fn cover(&self, step: u32, cell: u64, ranges: &mut Vec<Range<u64>>) {
        let bits = 2 * (STEP - step);
        let side = |offset: u32, range: (f64, f64)| {
            let size = (range.1 - range.0) / f64::from(1_u32 << step);
            (range.0 + f64::from(offset) * size, range.0 + f64::from(offset + 1) * size)
        };
        let (east, north) = (side(gathered(cell >> 1), LONGITUDES), side(gathered(cell), LATITUDES));
        let meets = |one: (f64, f64), other: (f64, f64)| one.0 <= other.1 && other.0 <= one.1;
        let around = |turn: f64| meets((east.0 + turn, east.1 + turn), self.longitudes);
        if !meets(north, self.latitudes) || !(around(0.0) || around(360.0) || around(-360.0)) {
            return;
        }
        let small = |cell: (f64, f64), window: (f64, f64)| cell.1 - cell.0 <= (window.1 - window.0) / 2.0;
        // What is long and thin would take very many cells that fit both ways.
        if step == STEP || small(east, self.longitudes) || small(north, self.latitudes) {
            let range = cell << bits..(cell + 1) << bits;
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
            return;
        }
        (0..4).for_each(|part| self.cover(step + 1, cell << 2 | part, ranges));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const PALERMO: Place = Place { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Place = Place { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn numbers_and_letters_are_those_of_redis() {
        assert_eq!((PALERMO.number(), CATANIA.number()), (3_479_099_956_230_698, 3_479_447_370_796_909));
        assert_eq!(Place::of_number(PALERMO.number()).geohash(), "sqc8b49rny0");
        let metres = Place::of_number(PALERMO.number()).metres_to(Place::of_number(CATANIA.number()));
        assert!((metres - 166_274.151_6).abs() < 0.001, "{metres}");
    }

    #[test]
    fn few_ranges_hold_all_that_is_inside() {
        let mut random = Random::new(7);
        let mut any =
            |range: (f64, f64)| range.0 + random.next_u64() as f64 / u64::MAX as f64 * (range.1 - range.0);
        for _ in 0..2000 {
            let middle = Place { longitude: any(LONGITUDES), latitude: any(LATITUDES) };
            let size = libm::exp2(any((0.0, 24.0)));
            let area = if (size as u64).is_multiple_of(2) {
                Area::Circle(size)
            } else {
                Area::Box(size, any((1.0, size)))
            };
            let ranges = area.numbers(middle);
            assert!(ranges.len() <= 80, "{} ranges for {area:?} around {middle:?}", ranges.len());
            for _ in 0..20 {
                // Near enough to be inside now and then.
                let degrees = (size / RADIUS_M).to_degrees();
                let near = |value: f64, by: f64, range: (f64, f64)| (value + by).clamp(range.0, range.1);
                let place = Place {
                    longitude: near(middle.longitude, any((-degrees, degrees)), LONGITUDES),
                    latitude: near(middle.latitude, any((-degrees, degrees)), LATITUDES),
                };
                let number = place.number().min((1 << (2 * STEP)) - 1);
                if area.metres(middle, Place::of_number(number)).is_some() {
                    let found = ranges.iter().any(|range| range.contains(&number));
                    assert!(found, "{place:?} in {area:?} around {middle:?}");
                }
            }
        }
    }
}
