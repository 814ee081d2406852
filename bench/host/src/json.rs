//! The report for programs, which is also what the reference is kept as.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::comparison::{Comparison, Ratios, Row, Side};
use crate::record::{self, Machine, Measured};

/// The comparison as JSON text, with a newline at its end.
pub fn write(comparison: &Comparison, linux_command_line: &str) -> String {
    let rows: Vec<Value> = comparison.rows.iter().map(row).collect();
    let report = json!({
        "auvm": machine(&comparison.auvm),
        "linux": machine(&comparison.linux),
        "linux_command_line": linux_command_line,
        "geometric_mean": ratios(comparison.geometric_means()),
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
    Ok(Comparison {
        auvm: record::machine(&report["auvm"])?,
        linux: record::machine(&report["linux"])?,
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
