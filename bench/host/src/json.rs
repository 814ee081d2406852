//! The report for programs, which is also what the reference is kept as.

use anyhow::{Context, Result};
use bench_programs::cases::Group;
use serde_json::{Map, Value, json};

use crate::comparison::{Boots, Comparison, Ratios, Row, Side};
use crate::record::{self, Machine, Measured};

/// The comparison as JSON text, with a newline at its end.
pub fn write(comparison: &Comparison, linux_command_line: &str) -> String {
    let rows: Vec<Value> = comparison.rows.iter().map(row).collect();
    let machines = comparison.boots.iter().map(|boots| {
        json!({
            "configuration": boots.configuration,
            "auvm": machine(&boots.auvm),
            "linux": machine(&boots.linux),
        })
    });
    let machines: Vec<Value> = machines.collect();
    let means = Group::ALL.map(|group| {
        let means = ratios(comparison.geometric_means(group));
        (group.name().to_owned(), means)
    });
    let report = json!({
        "machines": machines,
        "linux_command_line": linux_command_line,
        "geometric_means": Map::from_iter(means),
        "rows": rows,
    });
    format!("{report:#}\n")
}

/// Reads what [`write()`] wrote.
///
/// # Errors
/// It did not.
pub fn read(text: &str) -> Result<Comparison> {
    let report: Value = serde_json::from_str(text)?;
    let rows = report["rows"].as_array().context("'rows' is no list")?;
    let rows = rows.iter().map(|row| {
        Ok(Row {
            name: row["name"]
                .as_str()
                .context("'name' is no text")?
                .to_owned(),
            auvm: read_side(&row["auvm"])?,
            linux: read_side(&row["linux"])?,
        })
    });
    let machines = report["machines"]
        .as_array()
        .context("'machines' is no list")?;
    let boots = machines.iter().map(|machine| {
        Ok(Boots {
            configuration: machine["configuration"]
                .as_str()
                .context("'configuration' is no text")?
                .to_owned(),
            auvm: record::machine(&machine["auvm"])?,
            linux: record::machine(&machine["linux"])?,
        })
    });
    Ok(Comparison {
        boots: boots.collect::<Result<_>>()?,
        rows: rows.collect::<Result<_>>()?,
    })
}

fn row(row: &Row) -> Value {
    json!({
        "name": row.name,
        "auvm": side(&row.auvm),
        "linux": side(&row.linux),
        "ratio": ratios(row.ratios()),
    })
}

fn ratios(ratios: Option<Ratios>) -> Value {
    ratios.map_or(
        Value::Null,
        |Ratios { p50, mean }| json!({"p50": p50, "mean": mean}),
    )
}

fn machine(machine: &Machine) -> Value {
    json!({
        "kernel": machine.kernel,
        "release": machine.release,
        "version": machine.version,
        "memory": machine.memory,
        "free": machine.free,
        "overhead": machine.overhead,
        "ticks_per_million": machine.ticks_per_million,
    })
}

fn side(side: &Side) -> Value {
    match side {
        Err(why) => json!({"why": why}),
        Ok(case) => figures(case),
    }
}

fn figures(case: &Measured) -> Value {
    json!({
        "name": case.name,
        "unit": case.unit,
        "count": case.count,
        "min": case.min,
        "p50": case.p50,
        "p90": case.p90,
        "p99": case.p99,
        "max": case.max,
        "mean": case.mean,
        "faults": case.faults,
    })
}

fn read_side(value: &Value) -> Result<Side> {
    match value
        .as_object()
        .and_then(|object: &Map<String, Value>| object.get("why"))
    {
        Some(why) => Ok(Err(why.as_str().context("'why' is no text")?.to_owned())),
        None => record::measured(value).map(Ok),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::example;

    #[test]
    fn what_is_written_is_read() {
        let mut comparison = example::one((100, 110.25), (400, 440.5));
        assert_eq!(read(&write(&comparison, "quiet")).unwrap(), comparison);
        comparison.rows[0].linux = Err("no luck".to_owned());
        assert_eq!(read(&write(&comparison, "quiet")).unwrap(), comparison);
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(read("").is_err());
        assert!(read("{}").is_err());
    }
}
