//! What each call that changes something costs on a localnet: within the bounds, the same whether there are ten records
//! or many, and as `docs/contracts.md` says. `TUNNLER_WRITE_COSTS=1` writes its tables anew.

pub mod crowd;
mod plan;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use crate::meter::{Cost, Meter};
use crate::world::World;

/// What no call may exceed.
const BOUND: Cost =
    Cost { instructions: 5_000_000, entries: 10, written: 2_048, fee: u64::MAX, rent: u64::MAX };
/// Records of each kind there are when the costs are measured first.
const FEW: usize = 10;
/// By how many percent costs may differ when there are many.
const DIFFERENCE: u64 = 5;

/// Costs by call: the registry's, then the namespace's.
pub type Costs = [BTreeMap<&'static str, Cost>; 2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_records_make_no_call_dearer() {
    let many = std::env::var("TUNNLER_RECORDS").map_or(150, |text| text.parse().expect("a number"));
    let world = World::without_interval().await;
    let meter = Meter::new(&world).await;
    let mut crowd = crowd::Crowd::new(&meter).await;
    crowd.grow(FEW, FEW).await;
    let few = plan::measure(&meter, 1).await;
    let filling = Instant::now();
    crowd.grow(many, many).await;
    println!("{{\"records\":{many},\"filled_s\":{:.1}}}", filling.elapsed().as_secs_f64());
    let dear = plan::measure(&meter, 2).await;
    let mut problems = String::new();
    for (few, dear) in few.iter().zip(&dear) {
        assert!(few.keys().eq(dear.keys()), "the same calls are measured twice");
        for (call, cost) in dear {
            if let Some(what) = exceeds(cost, &BOUND, 0).or_else(|| exceeds(&few[call], &BOUND, 0)) {
                writeln!(problems, "{call}: {what} above the bound: {cost:?}").expect("a string");
            }
            if let Some(what) =
                exceeds(cost, &few[call], DIFFERENCE).or_else(|| exceeds(&few[call], cost, DIFFERENCE))
            {
                writeln!(problems, "{call}: {what} differs: {:?}, of many {cost:?}", few[call])
                    .expect("a string");
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
    few.iter().zip(TABLES).for_each(|(costs, contract)| compare(costs, contract));
}

/// Which figure of `cost` is more than so many percent above the other's.
fn exceeds(cost: &Cost, other: &Cost, percent: u64) -> Option<&'static str> {
    let figures = |cost: &Cost| [cost.instructions, cost.entries, cost.written];
    let names = ["instructions", "entries", "bytes written"];
    let above = |(own, other): (u64, u64)| own * 100 > other * (100 + percent);
    let which = figures(cost).into_iter().zip(figures(other)).position(above)?;
    Some(names[which])
}

/// Where the tables are.
const TABLES: [&str; 2] = ["tunnel-registry", "tunnel-namespace"];

/// Compares with the table, within a quarter; fee and rent are told only, as prices change.
fn compare(costs: &BTreeMap<&'static str, Cost>, contract: &str) {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../contracts"));
    let path = path.join(contract).join("localnet-costs.tsv");
    let mut measured = String::from("# call\tinstructions\tentries\tbytes written\tfee\tof which rent\n");
    for (call, Cost { instructions, entries, written, fee, rent }) in costs {
        writeln!(measured, "{call}\t{instructions}\t{entries}\t{written}\t{fee}\t{rent}").expect("a string");
    }
    if std::env::var_os("TUNNLER_WRITE_COSTS").is_some() {
        std::fs::write(&path, &measured).expect("the table can be written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    for (call, cost) in costs {
        let line = known.lines().find_map(|line| line.strip_prefix(call)?.strip_prefix('\t'));
        let numbers = line.map(|line| line.split('\t').map(|cell| cell.parse().expect("a number")));
        let numbers = numbers.map(Iterator::collect::<Vec<u64>>).unwrap_or_default();
        let [instructions, entries, written, fee, rent] = numbers[..] else {
            panic!("{call} is not in {}; TUNNLER_WRITE_COSTS=1 writes it anew:\n{measured}", path.display());
        };
        let expected = Cost { instructions, entries, written, fee, rent };
        assert!(exceeds(cost, &expected, 25).is_none(), "{call} costs {cost:?}, which was {expected:?}");
    }
}
