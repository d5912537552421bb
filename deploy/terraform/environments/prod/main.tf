# One instance with room for bursts, the lake under a key of its own.

module "lakeward" {
  source = "../../modules/lakeward"

  name          = "lakeward-prod"
  bucket        = var.bucket
  glue_database = "lakeward_prod"
  tags          = { Environment = "prod" }

  instance_type = "c7g.large"

  kms_key_arn       = var.kms_key_arn
  access_log_bucket = var.access_log_bucket
  volume_gib        = 100
  volume_iops       = 6000
  environment       = { LAKEWARD_JOURNAL_MAX = "50GiB" }

  vpc_id                 = var.vpc_id
  subnet_id              = var.subnet_id
  client_security_groups = var.client_security_groups
  program                = var.program
  secrets                = var.secrets
}
