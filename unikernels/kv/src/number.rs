//! Numbers as Redis reads and writes them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The number that these bytes are: decimal, without a plus, leading zeros or spaces, as Redis wants it.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // 19 digits are less than 2^64.
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// The same for a number without a sign.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] => text.iter().try_fold(0u64, |value, digit| {
            if !digit.is_ascii_digit() {
                return None;
            }
            value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        }),
        _ => None,
    }
}

/// The floating-point number that these bytes are, as C's `strtod` reads it; no spaces, and not "nan".
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let text = core::str::from_utf8(text).ok()?;
    let value: f64 = match text.parse() {
        Ok(value) => value,
        Err(_) => return parse_hex(text),
    };
    // What is too large is an error to Redis; "inf" is not.
    if value.is_nan() || value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(value)
}

/// Hexadecimal numbers, which `strtod` reads as well: 0x1f, -0x1.8p3.
fn parse_hex(text: &str) -> Option<f64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let (digits, exponent) = match digits.split_once(['p', 'P']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + part.len() == 0 || whole.len() + part.len() > 13 || exponent.unsigned_abs() > 900 {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars().chain(part.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let mut power = exponent - 4 * part.len() as i32;
    while power != 0 {
        value = if power > 0 { value * 2.0 } else { value / 2.0 };
        power -= power.signum();
    }
    Some(if negative { -value } else { value })
}

/// Appends a number in decimal.
pub fn write_i64(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[start..]);
}

/// A number as C's `printf` writes it by `%.17g`.
pub fn format_f64(value: f64) -> String {
    if value.is_infinite() {
        return String::from(if value > 0.0 { "inf" } else { "-inf" });
    }
    if value.is_nan() {
        return String::from("nan");
    }
    if value == 0.0 {
        return String::from(if value.is_sign_negative() { "-0" } else { "0" });
    }
    let scientific = format!("{value:.16e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let digits: String = digits.chars().filter(|digit| *digit != '.').collect();
    let digits = digits.trim_end_matches('0');
    if !(-4..17).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}e{mark}{:02}", exponent.unsigned_abs());
    }
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize));
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

/// Decimals behind the point that sums have at most, as Redis prints them.
const DECIMALS: usize = 17;

/// The sum of two decimal numbers as Redis's `INCRBYFLOAT` prints it: up to 17 decimals, no zeros at the end.
/// Like Redis, it keeps 64 bits of the sum. Unlike there, what is added is exact where it has no more
/// decimals than that and is below 10^20, which can show in the last of 19 digits. `None` if one is no
/// number; an infinite sum is "inf".
pub fn add_decimals(first: &[u8], second: &[u8]) -> Option<String> {
    let (first_value, second_value) = (parse_f64(first)?, parse_f64(second)?);
    let (sign, whole, part) = match (fixed(first), fixed(second)) {
        (Some(first), Some(second)) => {
            let sum = first + second;
            let one = 10u128.pow(DECIMALS as u32);
            let magnitude = rounded(sum.unsigned_abs(), one);
            (sum < 0, format!("{}", magnitude / one), format!("{:017}", magnitude % one))
        }
        _ => {
            let sum = first_value + second_value;
            if !sum.is_finite() {
                return Some(String::from("inf"));
            }
            let text = format!("{:.17}", if sum < 0.0 { -sum } else { sum });
            let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
            (sum < 0.0, String::from(whole), String::from(part))
        }
    };
    let part = part.trim_end_matches('0');
    let sign = if sign { "-" } else { "" };
    Some(if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
}

/// A number of parts of `one`, rounded to 64 significant bits, as x87 keeps it.
fn rounded(number: u128, one: u128) -> u128 {
    let half_even = |number: u128, unit: u128| {
        let (whole, rest) = (number / unit, number % unit);
        let up = rest * 2 > unit || rest * 2 == unit && whole % 2 == 1;
        whole + u128::from(up)
    };
    let whole = number / one;
    if whole >> 64 != 0 {
        let unit = 1 << (64 - whole.leading_zeros());
        return half_even(number, one * unit) * one * unit;
    }
    // As large a power of two as makes 64 bits of it.
    let mut power = 0;
    while number != 0 && (number << (power + 1)) / one < 1 << 64 && power < 119 {
        power += 1;
    }
    half_even(half_even(number << power, one) * one, 1 << power)
}

/// A decimal number times 10^17, if it is a whole number then and less than 10^37.
fn fixed(text: &[u8]) -> Option<i128> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let text = core::str::from_utf8(text).ok()?;
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let mut value = 0i128;
    for digit in whole.bytes().chain(part.bytes()) {
        if !digit.is_ascii_digit() || value > 10i128.pow(36) {
            return None;
        }
        value = value * 10 + i128::from(digit - b'0');
    }
    let power = (DECIMALS as i32 - part.len() as i32).checked_add(exponent)?;
    for _ in 0..power.unsigned_abs().min(60) {
        if value == 0 {
            break;
        }
        if power < 0 && value % 10 != 0 || power > 0 && value > 10i128.pow(36) {
            return None;
        }
        value = if power < 0 { value / 10 } else { value * 10 };
    }
    (value < 10i128.pow(37)).then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_strictly() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("18446744073709551616", None),
            ("", None),
            ("-", None),
            ("+1", None),
            ("01", None),
            ("-0", None),
            (" 1", None),
            ("1 ", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), value, "{text}");
        }
        for value in [0, 7, -7, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            write_i64(value, &mut out);
            assert_eq!(out, format!("{value}").into_bytes());
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }

    #[test]
    fn fractions_are_written_as_by_printf() {
        for (value, text) in [
            (3.1, "3.1000000000000001"),
            (1.5, "1.5"),
            (1e17, "1e+17"),
            (1e16, "10000000000000000"),
            (1e-5, "1.0000000000000001e-05"),
            (0.0001, "0.0001"),
            (-12.25, "-12.25"),
            (1e100, "1e+100"),
            (0.0, "0"),
            (f64::INFINITY, "inf"),
            (123456.0, "123456"),
        ] {
            assert_eq!(format_f64(value), text);
        }
    }

    #[test]
    fn sums_of_decimals_are_exact() {
        for (first, second, sum) in [
            ("10.5", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "200", "5200"),
            ("-1.5", "1.5", "0"),
            ("3", "-5.25", "-2.25"),
            ("1e30", "1", "1000000000000000019884624838656"),
            ("9223372036854775807", "3.6", "9223372036854775811"),
            ("100.1", "0", "100.1"),
            ("1e308", "1e308", "inf"),
        ] {
            assert_eq!(add_decimals(first.as_bytes(), second.as_bytes()).as_deref(), Some(sum));
        }
        assert_eq!(add_decimals(b"1x", b"1"), None);
    }

    #[test]
    fn fractions_are_read_as_by_strtod() {
        for (text, value) in [
            ("1.5", Some(1.5)),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("1e400", None),
            ("nan", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("0x10", Some(16.0)),
            ("-0x1.8p1", Some(-3.0)),
            ("1e5", Some(1e5)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), value, "{text}");
        }
    }
}
