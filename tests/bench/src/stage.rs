//! A lab of a figure's own, and the operator in it.

use std::path::PathBuf;

use anyhow::Result;
use kube::Client;
use lab::{Lab, LabOptions, Operator, OperatorOptions, workspace_binary};

/// A fresh lab, its administrator's client, and where the operator's program is.
pub struct Stage {
    pub lab: Lab,
    pub client: Client,
    awi: PathBuf,
}

impl Stage {
    pub async fn set(emulator_args: &[&str]) -> Result<Self> {
        let lab = Lab::start(LabOptions {
            emulator_args: emulator_args.iter().map(|arg| (*arg).to_owned()).collect(),
            audits_no_bodies: true,
            ..LabOptions::default()
        })
        .await?;
        Ok(Self {
            client: lab.client().await?,
            awi: workspace_binary("awi", "AWI_BIN")?,
            lab,
        })
    }

    pub async fn operator(&self, resync: &str) -> Result<Operator> {
        let options = OperatorOptions {
            resync: resync.into(),
            // As it is installed.
            extra_args: vec!["--leader-election".into()],
            ..OperatorOptions::default()
        };
        self.lab.start_operator(&self.awi, options).await
    }
}
