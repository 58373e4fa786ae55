//! What is wrong in a file is told with its place, what was found, what was expected and the next step.

use super::super::{Dice, Faults};
use super::*;

/// The sentence on a table that reads as TOML and makes no sense.
fn refused_pace(toml: &str) -> String {
    let performance: Performance = toml::from_str(toml).expect(toml);
    let refused = Pace::new(&performance, 1);
    refused.expect_err(toml).to_string()
}

fn refused_dice(toml: &str) -> String {
    let faults: Faults = toml::from_str(toml).expect(toml);
    Dice::new(&faults, 1).expect_err(toml).to_string()
}

#[test]
fn performance_that_makes_no_sense() {
    let thermal = |more: &str| {
        format!(
            "[thermal]\nambient_celsius = 30\ntime_constant = \"1s\"\nwarning_celsius = 70\ncritical_celsius = 80\n{more}"
        )
    };
    for (toml, error) in [
        (
            "iops = 0".to_owned(),
            "[performance], iops: found 0, expected 1 to 2^50 a second; leave the key out if nothing limits",
        ),
        (
            "[write]\nbytes_per_s = \"0B\"".to_owned(),
            "[performance.write], bytes_per_s: found 0, expected 1 to 2^50 a second; leave the key out if nothing limits",
        ),
        (
            "parallel = 8".to_owned(),
            "[performance], parallel: found 8, expected 1 to 65536, with a latency for them to take; give a latency, or leave the key out",
        ),
        (
            "parallel = 0\nlatency = \"1us\"".to_owned(),
            "[performance], parallel: found 0, expected 1 to 65536, with a latency for them to take; give a latency, or leave the key out",
        ),
        (
            "latency = {}".to_owned(),
            "[performance], latency: found none, expected one of constant, uniform, normal, lognormal and quantiles; say which one is meant",
        ),
        (
            "[read]\nlatency = { constant = \"1us\", uniform = [\"1us\", \"2us\"] }".to_owned(),
            "[performance.read], latency: found 2 of them, expected one of constant, uniform, normal, lognormal and quantiles; say which one is meant",
        ),
        (
            "latency = { uniform = [\"3us\", \"2us\"] }".to_owned(),
            "[performance], latency.uniform: found 3µs to 2µs, expected the shorter time first; swap them",
        ),
        (
            "latency = { lognormal = { median = \"3us\", p99 = \"2us\" } }".to_owned(),
            "[performance], latency.lognormal: found a median of 3µs and a p99 of 2µs, expected a median above 0 and a p99 not below it; take both from the same data sheet or measurement",
        ),
        (
            "latency = { quantiles = [[0, \"1us\"], [0.9, \"2us\"]] }".to_owned(),
            "[performance], latency.quantiles: found 0: 1µs, 0.9: 2µs, expected probabilities that rise from 0 to 1, with latencies that do not fall; give the least latency for 0 and the longest for 1",
        ),
        (
            "latency = { quantiles = [[0, \"1us\"], [nan, \"2us\"], [1, \"3us\"]] }".to_owned(),
            "[performance], latency.quantiles: found 0: 1µs, NaN: 2µs, 1: 3µs, expected probabilities that rise from 0 to 1, with latencies that do not fall; give the least latency for 0 and the longest for 1",
        ),
        (
            "latency = { constant = \"1us\", tail = { share = 1.5, latency = \"1ms\" } }"
                .to_owned(),
            "[performance], latency.tail.share: found 1.5, expected a number above 0 and up to 1; leave the tail out if there is none",
        ),
        (
            "slc = { bytes = \"1GiB\" }".to_owned(),
            "[performance.slc], bytes_per_s: found neither it nor latency, expected one of them; say how writes slow down when the cache is full",
        ),
        (
            thermal(""),
            "[performance.thermal], rise_per_gb_per_s: found neither it nor rise_per_kiops above 0, expected what warms the controller; give one of them",
        ),
        (
            thermal("rise_per_kiops = inf"),
            "[performance.thermal], rise_per_kiops: found inf, expected degrees from 0 to 1000000; leave the table out if there is no thermal model",
        ),
        (
            thermal(
                "rise_per_kiops = 1\nthrottle = [{ from_celsius = 60, until_celsius = 65, factor = 2 }]",
            ),
            "[performance.thermal].throttle number 1, from_celsius: found 60 with until_celsius at 65, expected more than until_celsius, which is more than ambient_celsius, and at most 200; put the three in order",
        ),
        (
            thermal(
                "rise_per_kiops = 1\nthrottle = [{ from_celsius = 60, until_celsius = 55, factor = 0.5 }]",
            ),
            "[performance.thermal].throttle number 1, factor: found 0.5, expected 1 to 1000000; 4 makes everything take four times as long",
        ),
        (
            thermal("rise_per_kiops = 1").replace("70", "90"),
            "[performance.thermal], warning_celsius: found 90, expected more than ambient_celsius and less than critical_celsius; put the three in order",
        ),
        (
            thermal("rise_per_kiops = 1").replace("1s", "1us"),
            "[performance.thermal], time_constant: found 1µs, expected 1ms to 24h; a drive with a heat sink needs minutes",
        ),
    ] {
        assert_eq!(refused_pace(&toml), error);
    }
}

#[test]
fn rules_that_make_no_sense() {
    for (rule, error) in [
        (
            "fault = \"status\"",
            "status: found none, expected a failure's name or number with the fault `status`, and none with others; such as fault = \"status\" with status = \"Unrecovered Read Error\"",
        ),
        (
            "fault = \"status\"\nstatus = 0",
            "status: found Successful Completion (type 0h, code 00h), expected a failure's name or number with the fault `status`, and none with others; leave the rule out if nothing is to go wrong",
        ),
        (
            "fault = \"lost\"\nstatus = 2",
            "status: found Invalid Field in Command (type 0h, code 02h), expected a failure's name or number with the fault `status`, and none with others; such as fault = \"status\" with status = \"Unrecovered Read Error\"",
        ),
        (
            "fault = \"lost\"\ndo_not_retry = true",
            "status: found do_not_retry without a status, expected a failure's name or number with the fault `status`, and none with others; such as fault = \"status\" with status = \"Unrecovered Read Error\"",
        ),
        (
            "fault = \"late\"",
            "delay: found none, expected a time with the faults `late` and `twice`, and none with others; such as fault = \"late\" with delay = \"50ms\"",
        ),
        (
            "fault = \"lost\"\ndelay = \"1s\"",
            "delay: found 1s, expected a time with the faults `late` and `twice`, and none with others; such as fault = \"late\" with delay = \"50ms\"",
        ),
        (
            "fault = \"corrupt\"\nkind = \"flush\"",
            "kind: found flush, expected read or write with the fault `corrupt`; other commands have no data",
        ),
        (
            "fault = \"lost\"\nfirst_lba = 9\nlast_lba = 8",
            "last_lba: found 8 with first_lba at 9, expected first_lba or a block after it; both are part of the range",
        ),
        (
            "fault = \"lost\"\nrate = 0",
            "rate: found 0, expected a probability above 0 and up to 1; 0.01 strikes one match of a hundred",
        ),
        (
            "fault = \"lost\"\nrate = nan",
            "rate: found NaN, expected a probability above 0 and up to 1; 0.01 strikes one match of a hundred",
        ),
        (
            "fault = \"lost\"\nnth = 0",
            "nth: found 0, expected 1 or more; 1000 strikes the 1000th match, the 2000th and so on",
        ),
        (
            "fault = \"lost\"\nnth = 5\nrate = 0.5",
            "nth: found 5 beside a rate of 0.5, expected one of nth and rate; make two rules of it",
        ),
        (
            "fault = \"lost\"\ntimes = 0",
            "times: found 0, expected 1 or more; leave the key out if the number is not bounded",
        ),
    ] {
        let toml = format!("[[rule]]\nfault = \"fatal\"\n[[rule]]\n{rule}");
        assert_eq!(
            refused_dice(&toml),
            format!("[[faults.rule]] number 2, {error}")
        );
    }
}

/// What the reader says, whose first lines show the place.
fn unread<T: serde::de::DeserializeOwned + std::fmt::Debug>(toml: &str) -> String {
    toml::from_str::<T>(toml).expect_err(toml).to_string()
}

#[test]
fn what_is_no_model_is_told_by_the_reader() {
    for (toml, parts) in [
        ("iop = 5", ["line 1", "unknown field `iop`", "`iops`"]),
        (
            "[read]\nlatencie = 5",
            ["line 2", "unknown field `latencie`", "`latency`"],
        ),
        (
            "latency = { constnat = \"1us\" }",
            ["line 1", "unknown field `constnat`", "`constant`"],
        ),
        (
            "latency = 100",
            [
                "line 1",
                "integer `100`",
                "expected a time in quotes, such as \"100us\"",
            ],
        ),
        (
            "latency = \"100 parsecs\"",
            [
                "line 1",
                "`100 parsecs` is no time",
                "expected a number with ns, us",
            ],
        ),
        (
            "bytes_per_s = \"3GB\"",
            ["line 1", "`3GB` is no size", "write KiB, MiB, GiB"],
        ),
        (
            "bytes_per_s = 3",
            ["line 1", "integer `3`", "in quotes with its unit"],
        ),
        ("iops = -1", ["line 1", "integer `-1`", "expected u64"]),
        (
            "slc = { latency = \"1us\" }",
            ["line 1", "missing field", "`bytes`"],
        ),
    ] {
        let found = unread::<Performance>(toml);
        for part in parts {
            assert!(found.contains(part), "{toml}: {found}");
        }
    }
    for (rule, parts) in [
        (
            "fault = \"lost\"\ntims = 3",
            ["unknown field `tims`", "`times`"],
        ),
        (
            "fault = \"loste\"",
            ["unknown variant `loste`", "`wrong-phase`"],
        ),
        ("times = 3", ["missing field", "`fault`"]),
        (
            "fault = \"status\"\nstatus = \"Sad\"",
            [
                "string \"Sad\"",
                "such as \"Unrecovered Read Error\", or by its 15 bits",
            ],
        ),
        (
            "fault = \"status\"\nstatus = 0x8000",
            ["integer `32768`", "or by its 15 bits"],
        ),
        (
            "fault = \"status\"\nstatus = -1",
            ["integer `-1`", "or by its 15 bits"],
        ),
        (
            "fault = \"lost\"\nkind = \"reed\"",
            ["unknown variant `reed`", "`write-zeroes`"],
        ),
    ] {
        let toml = format!("[[rule]]\nfault = \"fatal\"\n[[rule]]\n{rule}");
        let found = unread::<Faults>(&toml);
        assert!(found.contains("[[faults.rule]] number 2: "), "{found}");
        for part in parts {
            assert!(found.contains(part), "{toml}: {found}");
        }
    }
    assert!(unread::<Faults>("never_redy = true").contains("unknown field `never_redy`"));
}

#[test]
fn models_are_written_as_they_are_read() {
    let performance: Performance = toml::from_str(
        "iops = 5\nbytes_per_s = \"6GiB\"\nparallel = 3\nread.latency = \"80us\"\n\
         write.latency = { quantiles = [[0, \"1us\"], [1, \"2us\"]], tail = { share = 0.1, latency = \"1ms\" } }\n\
         slc = { bytes = \"1GiB\", latency = { normal = { mean = \"1ms\", deviation = \"1us\" } } }\n\
         [thermal]\nambient_celsius = 30\nrise_per_kiops = 1\ntime_constant = \"1s\"\nwarning_celsius = 70\ncritical_celsius = 80\n\
         throttle = [{ from_celsius = 60, until_celsius = 55, factor = 2 }]",
    )
    .expect("a model");
    let text = toml::to_string(&performance).expect("TOML");
    assert_eq!(
        toml::from_str::<Performance>(&text).expect(&text),
        performance
    );

    let faults: Faults = toml::from_str(
        "never_ready = true\n[[rule]]\nfault = \"status\"\nstatus = \"write fault\"\nkind = \"write-zeroes\"\nrate = 0.5\n\
         [[rule]]\nfault = \"twice\"\ndelay = \"5us\"\nafter = \"1s\"\nnth = 7\ntimes = 2\nfirst_lba = 1\nlast_lba = 2\nnamespace = 3",
    )
    .expect("faults");
    let text = toml::to_string(&faults).expect("TOML");
    assert!(text.contains("status = \"Write Fault\""), "{text}");
    assert_eq!(toml::from_str::<Faults>(&text).expect(&text), faults);
}
