//! Sets of strings. Small ones of whole numbers are a sorted array.

use crate::bytes::Bytes;
use crate::number::{parse_i64, write_i64};
use crate::random::Random;
use crate::table::{HashKey, Table};
use alloc::vec::Vec;

/// Different strings.
#[derive(Clone, Debug)]
pub struct Set {
    form: Form,
    /// Bytes that members have beside themselves.
    heap: usize,
}

#[derive(Clone, Debug)]
enum Form {
    Numbers(Vec<i64>),
    Table(Table<()>),
}

impl Default for Set {
    fn default() -> Self {
        Self { form: Form::Numbers(Vec::new()), heap: 0 }
    }
}

fn text(number: i64) -> Bytes {
    let mut text = Vec::with_capacity(20);
    write_i64(number, &mut text);
    Bytes::from(text)
}

impl Set {
    /// How many members there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Numbers(numbers) => numbers.len(),
            Form::Table(table) => table.len(),
        }
    }

    /// Whether a string is a member.
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.form {
            Form::Numbers(numbers) => {
                parse_i64(member).is_some_and(|number| numbers.binary_search(&number).is_ok())
            }
            Form::Table(table) => table.find(member).is_some(),
        }
    }

    /// Adds a member. Whether it is a new one. With more than `most_numbers`, the set is a table.
    pub fn add(&mut self, member: &[u8], most_numbers: usize, key: HashKey) -> bool {
        if let Form::Numbers(numbers) = &mut self.form {
            match parse_i64(member) {
                Some(number) => {
                    let Err(place) = numbers.binary_search(&number) else { return false };
                    numbers.insert(place, number);
                    if numbers.len() > most_numbers {
                        self.grow(key);
                    }
                    return true;
                }
                None => self.grow(key),
            }
        }
        let Form::Table(table) = &mut self.form else { return false };
        if table.find(member).is_some() {
            return false;
        }
        let member = Bytes::from(member);
        self.heap += member.heap_bytes();
        table.insert(member, ());
        true
    }

    /// Removes a member. Whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Numbers(numbers) => {
                let place = parse_i64(member).and_then(|number| numbers.binary_search(&number).ok());
                place.map(|place| numbers.remove(place)).is_some()
            }
            Form::Table(table) => {
                let Some(slot) = table.find(member) else { return false };
                self.heap -= table.remove(slot).0.heap_bytes();
                true
            }
        }
    }

    /// Visits all members: numbers by size, others in any order.
    pub fn visit(&self, mut visit: impl FnMut(&Bytes)) {
        match &self.form {
            Form::Numbers(numbers) => numbers.iter().for_each(|number| visit(&text(*number))),
            Form::Table(table) => table.iter().for_each(|(_, member, ())| visit(member)),
        }
    }

    /// All members.
    pub fn members(&self) -> Vec<Bytes> {
        let mut members = Vec::with_capacity(self.len());
        self.visit(|member| members.push(member.clone()));
        members
    }

    /// Visits some members from a cursor on, and returns the next one. An array is visited at once.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&Bytes)) -> u64 {
        match &self.form {
            Form::Numbers(_) => {
                self.visit(visit);
                0
            }
            Form::Table(table) => table.scan(cursor, |slot| visit(table.key(slot))),
        }
    }

    /// Any member; there must be one.
    pub fn random(&self, random: &mut Random) -> Bytes {
        match &self.form {
            Form::Numbers(numbers) => text(numbers[random.below(numbers.len())]),
            Form::Table(table) => table.key(table.random(random).unwrap_or_default()).clone(),
        }
    }

    /// The name of the form, as Redis calls it.
    pub fn encoding(&self) -> &'static str {
        if matches!(self.form, Form::Numbers(_)) { "intset" } else { "hashtable" }
    }

    /// Bytes of memory beside the set itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.form {
            Form::Numbers(numbers) => numbers.capacity() * size_of::<i64>(),
            Form::Table(table) => table.len() * Table::<()>::entry_bytes() + self.heap,
        }
    }

    fn grow(&mut self, key: HashKey) {
        let Form::Numbers(numbers) = &mut self.form else { return };
        let mut table = Table::new(key);
        for number in core::mem::take(numbers) {
            table.insert(text(number), ());
        }
        self.form = Form::Table(table);
    }
}
