//! What the papers measured: figures as printed, in microseconds unless said otherwise, and which of our
//! primitives stands beside each.

/// A table of a paper.
pub struct Table {
    /// Its name for `--only` and in results.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Where the figures are from, and on which machine they were measured.
    pub source: &'static str,
    /// What the paper proposes, and what it compares it with.
    pub systems: [&'static str; 2],
    /// Unit of the paper's figures.
    pub unit: &'static str,
    /// Groups of primitives that the unikernel measures for it.
    pub groups: &'static [&'static str],
    /// Its rows.
    pub rows: &'static [Row],
}

/// A row: one operation.
pub struct Row {
    /// What it is called in the paper.
    pub operation: &'static str,
    /// What the paper proposes, and what it compares that with, if it has such figures.
    pub paper: [Option<f64>; 2],
    /// Our primitive.
    pub ours: &'static str,
    /// The primitive of the program on Linux, if there is such a thing.
    pub linux: Option<&'static str>,
    /// Instructions that we aim at, at most.
    pub aim: Option<f64>,
}

/// A row whose primitive has the same name on Linux.
const fn row(operation: &'static str, paper: [Option<f64>; 2], primitive: &'static str) -> Row {
    Row { operation, paper, ours: primitive, linux: Some(primitive), aim: None }
}

impl Row {
    const fn aims(self, aim: f64) -> Row {
        Row { aim: Some(aim), ..self }
    }

    /// With another primitive on Linux, or none.
    const fn beside(self, linux: Option<&'static str>) -> Row {
        Row { linux, ..self }
    }
}

const NONE: [Option<f64>; 2] = [None, None];

const fn both(theirs: f64, others: f64) -> [Option<f64>; 2] {
    [Some(theirs), Some(others)]
}

const fn theirs(theirs: f64) -> [Option<f64>; 2] {
    [Some(theirs), None]
}

const fn others(others: f64) -> [Option<f64>; 2] {
    [None, Some(others)]
}

const AEGIS: &str = "Engler, Kaashoek, O'Toole, SOSP'95; DEC5000/125, 25 MHz";

/// All tables.
pub const TABLES: &[Table] = &[
    Table {
        name: "sosp95-4",
        title: "Null procedure and system call",
        source: AEGIS,
        systems: ["Aegis", "Ultrix"],
        unit: "us",
        groups: &["calls"],
        rows: &[
            row("procedure call", both(0.28, 0.28), "procedure"),
            row("system call", both(1.6, 21.3), "hypercall").beside(Some("system-call")),
        ],
    },
    Table {
        name: "sosp95-5",
        title: "Exceptions: to a handler of the application and back",
        source: AEGIS,
        systems: ["Aegis", "Ultrix"],
        unit: "us",
        groups: &["exceptions", "memory"],
        rows: &[
            row("unaligned", theirs(1.5), "unaligned"),
            row("overflow", both(1.5, 130.0), "overflow"),
            row("coprocessor unusable", theirs(1.5), "coprocessor").beside(None),
            row("protection", both(1.5, 154.0), "trap").aims(100.0),
        ],
    },
    Table {
        name: "sosp95-8",
        title: "A word there and back between two programs",
        source: AEGIS,
        systems: ["ExOS", "Ultrix"],
        unit: "us",
        groups: &["calls"],
        rows: &[row("pipe", both(14.2, 199.0), "pipe")],
    },
    Table {
        name: "sosp95-9",
        title: "Product of matrices, 150 by 150",
        source: AEGIS,
        systems: ["ExOS", "Ultrix"],
        unit: "s",
        groups: &["matrix"],
        rows: &[row("matrix", both(3.7, 3.8), "matrix")],
    },
    Table {
        name: "sosp95-10",
        title: "Virtual memory; prot100 and unprot100 for each of 100 pages",
        source: AEGIS,
        systems: ["ExOS", "Ultrix"],
        unit: "us",
        groups: &["memory"],
        rows: &[
            row("dirty", theirs(9.8), "dirty").aims(30.0),
            row("prot1", both(16.9, 32.0), "prot1").aims(100.0),
            row("prot100", both(1.09, 1.02), "prot100").aims(20.0),
            row("unprot100", both(1.43, 1.02), "unprot100").aims(25.0),
            row("trap", both(4.8, 161.0), "trap").aims(100.0),
            row("appel1", both(34.0, 262.0), "appel1").aims(800.0),
            row("appel2", both(22.0, 232.0), "appel2").aims(400.0),
        ],
    },
    Table {
        name: "asplos91",
        title: "Primitives of Appel and Li, each operation for one page",
        source: "Appel, Li, ASPLOS'91; Ultrix 4.1, DECstation 3100: trap as Hosking and Moss cite it, the others \
                 quoted from memory",
        systems: ["-", "Ultrix"],
        unit: "us",
        groups: &["memory"],
        rows: &[
            row("trap", others(210.0), "trap").aims(100.0),
            row("trap + prot1 + unprot", others(393.0), "appel1").aims(800.0),
            row("trap + protN + unprot", others(344.0), "appel2").aims(400.0),
            row("prot1", NONE, "prot1").aims(100.0),
            row("protN", NONE, "prot100").aims(20.0),
            row("unprot", NONE, "unprot1"),
            row("dirty, 100 pages at once", NONE, "dirty100").beside(None),
            row("map2", NONE, "map2").beside(None),
            row("trap + unprot", NONE, "fault"),
            row("trap + unprot, handler may wait", NONE, "fault-handler-that-waits").beside(Some("fault")),
        ],
    },
    Table {
        name: "asplos94",
        title: "Simple exceptions, by each of our ways",
        source: "Thekkath, Levy, ASPLOS'94; DECstation 5000/200: 8 as SOSP'95 cites it, Ultrix quoted from memory",
        systems: ["Thekkath and Levy", "Ultrix"],
        unit: "us",
        groups: &["exceptions"],
        rows: &[
            row("illegal instruction", both(8.0, 80.0), "illegal").aims(60.0),
            row("illegal instruction, assembly", both(8.0, 80.0), "illegal-entry").beside(Some("illegal")),
            row("illegal instruction, closure", both(8.0, 80.0), "illegal-closure").beside(Some("illegal")),
            row("breakpoint", NONE, "breakpoint"),
            row("divide error", NONE, "divide"),
        ],
    },
    Table {
        name: "spin-4",
        title: "Virtual memory; prot100 and unprot100 for each of 100 pages",
        source: "Bershad et al., SOSP'95, as the benchmark page of 1996 has it; DEC Alpha, 133 MHz. Of trap on \
                 OSF/1 the page says 200, the paper 260 (quoted from memory)",
        systems: ["SPIN", "OSF/1"],
        unit: "us",
        groups: &["memory"],
        rows: &[
            row("dirty", theirs(2.0), "dirty").aims(30.0),
            row("fault", both(29.0, 329.0), "fault"),
            row("trap", both(7.0, 200.0), "trap").aims(100.0),
            row("prot1", both(16.0, 45.0), "prot1").aims(100.0),
            row("prot100", both(2.13, 10.41), "prot100").aims(20.0),
            row("unprot100", both(2.14, 10.16), "unprot100").aims(25.0),
            row("appel1", both(39.0, 382.0), "appel1").aims(800.0),
            row("appel2", both(29.0, 351.0), "appel2").aims(400.0),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_differ_and_groups_are_the_unikernels() {
        let names: BTreeSet<_> = TABLES.iter().map(|table| table.name).collect();
        assert_eq!(names.len(), TABLES.len());
        let groups = ["calls", "exceptions", "memory", "matrix"];
        assert!(TABLES.iter().flat_map(|table| table.groups).all(|group| groups.contains(group)));
    }

    #[test]
    fn ratios_are_those_of_the_paper() {
        let table = TABLES.iter().find(|table| table.name == "sosp95-10").unwrap();
        let ratio = |operation: &str| {
            let row = table.rows.iter().find(|row| row.operation == operation).unwrap();
            let [Some(theirs), Some(others)] = row.paper else { panic!("{operation}") };
            (others / theirs * 100.0).round() / 100.0
        };
        // 33.5, 7.7 and 10.5 times faster; slower for ranges.
        assert_eq!([ratio("trap"), ratio("appel1"), ratio("appel2")], [33.54, 7.71, 10.55]);
        assert_eq!([ratio("prot100"), ratio("unprot100")], [0.94, 0.71]);
    }
}
