//! Intake, plan, ledger and the pipeline loop: what makes delivery exactly once.
