//! Temperature of drives, as their sensors tell it under hwmon.

use crate::root::{Reader, numbered};

/// Above this a reading or threshold is a driver's way to say that there is none.
const HOTTEST: f64 = 200.0;

/// A drive's temperatures in degrees Celsius.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Temperature {
    pub(crate) now: f64,
    pub(crate) warning: Option<f64>,
    pub(crate) critical: Option<f64>,
    pub(crate) alarm: Option<bool>,
}

/// The folder of a drive's sensor: below its NVMe controller (two places, by the kernel's age), or by the module drivetemp
/// below its SCSI device (`Documentation/hwmon/drivetemp.rst`).
pub(crate) fn sensor(reader: &Reader, drive: &str) -> Option<String> {
    let places = [
        format!("sys/class/nvme/{drive}"),
        format!("sys/class/nvme/{drive}/device/hwmon"),
        format!("sys/block/{drive}/device/hwmon"),
    ];
    places.iter().find_map(|place| {
        reader
            .names(place)
            .iter()
            .filter(|name| numbered(name, "hwmon").is_some())
            .map(|name| format!("{place}/{name}"))
            .find(|folder| reader.exists(&format!("{folder}/temp1_input")))
    })
}

/// The drive's own temperature: the composite one of NVMe (Base 2.0 §5.16.1.3), in thousandths of a degree
/// (`Documentation/hwmon/sysfs-interface.rst`). Asks the drive.
pub(crate) fn read(reader: &Reader, sensor: &str) -> Option<Temperature> {
    let celsius = |file: &str| {
        let path = format!("{sensor}/temp1_{file}");
        let thousandths: i64 = reader.value(&path, "thousandths of a degree")?;
        let celsius = thousandths as f64 / 1000.0;
        (celsius.abs() < HOTTEST).then_some(celsius)
    };
    Some(Temperature {
        now: celsius("input")?,
        warning: celsius("max").filter(|c| *c > 0.0),
        critical: celsius("crit").filter(|c| *c > 0.0),
        alarm: reader.flag(&format!("{sensor}/temp1_alarm")),
    })
}
