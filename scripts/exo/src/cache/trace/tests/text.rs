//! Text: headings, quotes, marks, keys, separators, units.

use super::*;

fn with_columns(text: &str, columns: &str) -> Result<Vec<u64>> {
    read_as("a.csv", text.as_bytes(), &of_columns(columns, None, None))
}

#[test]
fn a_quoted_field_ends_on_its_line() {
    let open = said(with_columns("LBA,key\n5,\"x\n6,y\n7,z\n", "block=1"));
    assert!(open.contains("line 2: has a quote that does not end"), "{open}");
    let behind = said(with_columns("5,\"x\"6,y\n", "block=1"));
    assert!(behind.contains("line 1: has text behind the closing quote"), "{behind}");
    let sane = "\"when\",\"the, LBA\"\n1,\"7\"\n2, \"8\" \n3,7\n";
    assert_eq!(with_columns(sane, "block=2").unwrap(), [7, 8, 7]);
    let keys = "1,\"a \"\"b\"\"\"\n2,\"a \"\"b\"\"\"\n3,\"a, b\"\n4,a\"b\n";
    assert_eq!(with_columns(keys, "key=2").unwrap(), [0, 0, 1, 2]);
}

#[test]
fn only_names_above_numbers_are_a_heading() {
    let message = said(with_columns("-1,x\n2,y\n2,z\n", "block=1"));
    assert!(message.contains("line 1: column 1 has \"-1\""), "{message}");
    for damaged in ["?,x\n2,y\n2,z\n", "1x,x\n2,y\n2,z\n", "\u{1},x\n2,y\n2,z\n", "0x10,x\n2,y\n2,z\n"] {
        let message = said(with_columns(damaged, "block=1"));
        assert!(message.contains("line 1"), "{damaged:?}: {message}");
    }
    assert_eq!(with_columns("LBA,key\n2,y\n2,z\n", "block=1").unwrap(), [2, 2]);
    assert_eq!(with_columns("# by hand\n\nLBA,key\n2,y\n", "block=lba").unwrap(), [2]);
    let path = Path::new("a");
    let description = of_columns("block=1", None, None);
    let trace = read_packed(b"LBA,key\n2,y\n".as_slice(), path, &description, Recorder::default());
    let trace = trace.unwrap().finish();
    assert!(trace.notes()[0].contains("line 1 is taken for a heading"), "{:?}", trace.notes());
}

#[test]
fn keys_of_text_are_blocks() {
    let text = "0,k-aB1,14,get\n0,k-aB2,14,get\n1,k-aB1,14,get\n";
    for columns in ["block=2", "key=2"] {
        assert_eq!(with_columns(text, columns).unwrap(), [0, 1, 0]);
    }
    assert_eq!(with_columns(text, "key=4,file=2").unwrap(), [0, 1, 0], "a key of each file");
    assert_eq!(with_columns("12\n34\n12\n", "key=1").unwrap(), [0, 1, 0]);
    // Names that differ only in where a field ends.
    assert_eq!(with_columns("a;b,c\na,b;c\n", "key=1,file=2").unwrap(), [0, 1]);
    let many: String = (0..20_000).map(|number| format!("key/{number}\n")).collect();
    let found = with_columns(&many, "key=1").unwrap();
    assert!(found.iter().copied().eq(0..20_000), "no two share a number");
    let mixed = said(with_columns("1\n2\n3\nx\n", "block=1"));
    assert!(mixed.contains("line 4"), "{mixed}");
    let missing = said(with_columns("a,b\nc\n", "key=2"));
    assert!(missing.contains("line 2: column 2") && missing.contains("no key"), "{missing}");
    let latin = read_as("a", b"k\xe9\n", &of_columns("key=1", None, None));
    assert!(said(latin).contains("no key"));
}

#[test]
fn byte_order_marks_are_skipped() {
    let mark = "\u{feff}";
    let none = Description::default();
    let texts = ["1\n2\n", "*\n1\n2\n", "# hyperexo references 1\n1\n2\n", "0,8,4096,r,1\n0,16,4096,w,1\n"];
    for text in texts {
        assert_eq!(read_as("a", format!("{mark}{text}").as_bytes(), &none).unwrap(), [1, 2], "{text}");
    }
    assert_eq!(with_columns(&format!("{mark}lba\n1\n"), "block=lba").unwrap(), [1]);
    assert_eq!(with_columns(&format!("{mark}\"lba\"\n1\n"), "block=1").unwrap(), [1]);
    assert_eq!(read_as("a.zst", &packed::zstd(format!("{mark}1\n").as_bytes()), &none).unwrap(), [1]);
}

#[test]
fn marks_of_lirs_are_recognized() {
    assert_eq!(read_as("a", b"5\n6\n*\n7\n", &Description::default()).unwrap(), [5, 6, 7]);
    let late = format!("{}*\n7\n", "1\n".repeat(40_000));
    let message = failure("a", late.as_bytes(), None, None);
    assert!(message.contains("line 40001") && message.contains("--format lirs"), "{message}");
    assert!(failure("a", b"5\n*\nx\n", None, None).contains("line 2"));
}

#[test]
fn fields_are_separated_by_what_separates_them() {
    let plain =
        [("a,1\nb,2\n", ","), ("a;1\nb;2\n", ";"), ("a\t1\nb\t2\n", "tab"), ("a  1\n  b 2\n", "space")];
    for (text, separator) in plain {
        assert_eq!(with_columns(text, "block=2").unwrap(), [1, 2], "{text:?}");
        let named = of_columns("block=2", Some(separator), None);
        assert_eq!(read_as("a", text.as_bytes(), &named).unwrap(), [1, 2], "{text:?}");
    }
    assert_eq!(with_columns("0,5;12;3\n0,6;13;3\n", "block=2").unwrap(), [12, 13], "decimal commas");
    assert_eq!(with_columns("1,a b c d,5\n2,b c d e,6\n", "block=3").unwrap(), [5, 6]);
    assert_eq!(with_columns("\t7\n\t8\n", "block=2").unwrap(), [7, 8], "an empty field is a field");
    let piped = of_columns("block=2", Some("pipe"), None);
    assert_eq!(read_as("a", b"a|1\n", &piped).unwrap(), [1]);
    let lost = said(with_columns("a b\n1 2\n", "block=3"));
    assert!(lost.contains("white space") && lost.contains("--separator"), "{lost}");
    for wrong in ["", "ab", "\"", "x", "é"] {
        assert!(wrong.parse::<Separator>().is_err(), "{wrong}");
    }
}

#[test]
fn addresses_count_units() {
    let sectors = of_columns("offset=1,size=2", None, Some("512"));
    assert_eq!(read_as("a", b"8,4096\n15,513\n", &sectors).unwrap(), [1, 1, 2]);
    let both = of_columns("offset=1,count=2", None, Some("512"));
    assert_eq!(read_as("a", b"8,8\n15,2\n", &both).unwrap(), [1, 1, 2]);
    assert_eq!(read_as("a", b"2,3\n", &of_columns("offset=1,size=2", None, Some("4K"))).unwrap(), [2]);
    let far = said(read_as("a", b"18446744073709551615,1\n", &sectors));
    assert!(far.contains("line 1") && far.contains("2^64"), "{far}");
    let blocks = said(read_as("a", b"1\n", &of_columns("block=1", None, Some("512"))));
    assert!(blocks.contains("--unit") && blocks.contains("offset=NAME"), "{blocks}");
    let separated = Description { separator: Some(Separator::Space), ..Description::default() };
    assert!(said(read_as("a", b"1\n", &separated)).contains("--separator is for csv with columns"));
    for wrong in ["0", "x", "2G", ""] {
        assert!(wrong.parse::<Unit>().is_err(), "{wrong}");
    }
}

#[test]
fn traces_of_disks() {
    let spc = b"0,20941264,8192,W,0.551706\n0,20939840,8192,W,0.554041\n0,20941264,8192,R,1.6,more\n";
    let found = read_as("a", spc, &Description::default()).unwrap();
    assert_eq!(found, [2_617_658, 2_617_659, 2_617_480, 2_617_481, 2_617_658, 2_617_659]);
    let whole = Description { unit: Some("4K".parse().unwrap()), ..Description::default() };
    assert_eq!(read_as("a.spc", b"0,3,1,r,0\n1,3,1,r,0\n", &whole).unwrap(), [3, 1 << 32 | 3]);
    let kind = failure("a", b"0,8,512,R,1\n0,8,512,X,1\n", None, None);
    assert!(kind.contains("line 2: column 4 has \"X\", which is not R or W"), "{kind}");
    let arc = b"48 1 0 0\n49 3 0 1\n48 2 0 2\n";
    assert_eq!(read_as("P1.lis", arc, &Description::default()).unwrap(), [48, 49, 50, 51, 48, 49]);
    assert!(failure("P1", arc, None, None).contains("--format arc"));
    assert!(failure("P1.lis", b"48 1 0 0\n49 3\n", None, None).contains("line 2: 2 fields instead of 4"));
    assert!(failure("a", b"1,h,0,Read,0,1,1\n1,h,0,Rxad,0,1,1\n", None, None).contains("line 2: column 4"));
}

#[test]
fn zero_bytes_are_no_text() {
    let hole = said(with_columns("1,x\n2,\0\0\n", "block=1"));
    assert!(hole.contains("line 2") && hole.contains("zero"), "{hole}");
}
