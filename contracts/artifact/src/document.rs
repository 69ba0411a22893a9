//! The interface of a contract as a page to read: calls with their costs, errors, events and records.

use std::fmt::Write;

use stellar_xdr::{
    ScSpecEntry, ScSpecEventParamLocationV0, ScSpecFunctionV0, ScSpecTypeDef, ScSpecUdtUnionCaseV0, StringM,
};

/// What comes before the contracts.
pub const PREFACE: &str = include_str!("preface.md");

/// The page's part on one contract.
pub fn contract(title: &str, interface: &[ScSpecEntry], costs: &str) -> String {
    let mut page = format!("\n## {title}\n\n### Calls\n\n");
    let mut errors = String::new();
    let mut events = String::new();
    let mut types = String::new();
    for entry in interface {
        match entry {
            ScSpecEntry::FunctionV0(call) => write(&mut page, &function(call, costs)),
            ScSpecEntry::UdtErrorEnumV0(error) => {
                for case in error.cases.iter() {
                    write(
                        &mut errors,
                        &format!("| {} | `{}` | {} |\n", case.value, case.name, line(&case.doc)),
                    );
                }
            }
            ScSpecEntry::EventV0(event) => {
                let part = |wanted: ScSpecEventParamLocationV0| {
                    let params = event.params.iter().filter(|param| param.location == wanted);
                    params.map(|param| format!("`{}`", param.name)).collect::<Vec<_>>().join(", ")
                };
                let topics = part(ScSpecEventParamLocationV0::TopicList);
                let data = part(ScSpecEventParamLocationV0::Data);
                let topic = event.prefix_topics.first().map(|topic| topic.to_utf8_string_lossy());
                let topic = topic.unwrap_or_default();
                write(&mut events, &format!("| `{topic}` | {topics} | {data} | {} |\n", line(&event.doc)));
            }
            ScSpecEntry::UdtStructV0(record) => {
                write(&mut types, &format!("**{}**: {}\n\n", record.name, line(&record.doc)));
                for field in record.fields.iter() {
                    let kind = kind(&field.type_);
                    write(&mut types, &format!("- `{}`: {kind}. {}\n", field.name, line(&field.doc)));
                }
                types.push('\n');
            }
            ScSpecEntry::UdtUnionV0(union) => {
                write(&mut types, &format!("**{}**: {}\n\n", union.name, line(&union.doc)));
                for case in union.cases.iter() {
                    let (name, doc) = match case {
                        ScSpecUdtUnionCaseV0::VoidV0(case) => (&case.name, &case.doc),
                        ScSpecUdtUnionCaseV0::TupleV0(case) => (&case.name, &case.doc),
                    };
                    write(&mut types, &format!("- `{name}`: {}\n", line(doc)));
                }
                types.push('\n');
            }
            ScSpecEntry::UdtEnumV0(_) => {}
        }
    }
    write(&mut page, &format!("### Errors\n\n| code | name | meaning |\n|---|---|---|\n{errors}\n"));
    write(
        &mut page,
        &format!("### Events\n\n| event | topics | data | when |\n|---|---|---|---|\n{events}\n"),
    );
    write(&mut page, &format!("### Records\n\n{}", types.trim_end()));
    page.push('\n');
    page
}

/// The table of what was measured on a localnet.
pub fn localnet(costs: &str) -> String {
    let mut table = String::from(
        "\n### Costs on a localnet\n\n| call | instructions | entries | bytes written | resource fee | of which rent |\n\
         |---|---|---|---|---|---|\n",
    );
    for line in costs.lines().filter(|line| !line.starts_with('#')) {
        write(&mut table, &format!("| {} |\n", line.split('\t').collect::<Vec<_>>().join(" | ")));
    }
    table
}

fn function(call: &ScSpecFunctionV0, costs: &str) -> String {
    let name = call.name.to_utf8_string_lossy();
    let inputs = call.inputs.iter().map(|input| format!("{}: {}", input.name, kind(&input.type_)));
    let inputs = inputs.collect::<Vec<_>>().join(", ");
    let output = call.outputs.first().map(kind).filter(|output| !output.is_empty());
    let output = output.map(|output| format!(" → {output}")).unwrap_or_default();
    let mut text = format!("**`{name}({inputs}){output}`**\n{}\n", line(&call.doc));
    let measured = costs.lines().filter_map(|line| {
        let mut cells = line.split('\t');
        let case = cells.next()?;
        let numbers: Vec<_> = cells.collect();
        let own = case == name || case.strip_prefix(&*name).is_some_and(|rest| rest.starts_with(' '));
        own.then_some((case, numbers))
    });
    for (case, numbers) in measured {
        let case = case.strip_prefix(&*name).unwrap_or_default();
        let [instructions, entries, written, fee, rent] = numbers[..] else { continue };
        let cost = format!("{instructions} instructions, {entries} entries, {written} bytes written");
        write(&mut text, &format!("Cost{case}: {cost}; fee {fee}, of which rent {rent}.\n"));
    }
    text.push('\n');
    text
}

/// A type in the words of Rust.
fn kind(kind: &ScSpecTypeDef) -> String {
    match kind {
        ScSpecTypeDef::Option(inner) => format!("Option<{}>", self::kind(&inner.value_type)),
        ScSpecTypeDef::Vec(inner) => format!("Vec<{}>", self::kind(&inner.element_type)),
        ScSpecTypeDef::BytesN(bytes) => format!("BytesN<{}>", bytes.n),
        ScSpecTypeDef::Udt(named) => named.name.to_utf8_string_lossy(),
        ScSpecTypeDef::Result(result) => match &*result.ok_type {
            ScSpecTypeDef::Void | ScSpecTypeDef::Tuple(_) => String::new(),
            value => self::kind(value),
        },
        ScSpecTypeDef::U32 => "u32".into(),
        ScSpecTypeDef::U64 => "u64".into(),
        ScSpecTypeDef::I128 => "i128".into(),
        plain => plain.name().to_owned(),
    }
}

/// An explanation on one line.
fn line<const MAX: u32>(doc: &StringM<MAX>) -> String {
    doc.to_utf8_string_lossy().split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn write(page: &mut String, text: &str) {
    page.write_str(text).expect("a string takes all");
}
