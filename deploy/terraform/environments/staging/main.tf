# As prod, smaller.

module "lakeward" {
  source = "../../modules/lakeward"

  name          = "lakeward-staging"
  bucket        = var.bucket
  glue_database = "lakeward_staging"
  tags          = { Environment = "staging" }

  instance_type = "t4g.medium"
  expire        = { "" = 30 }

  vpc_id                 = var.vpc_id
  subnet_id              = var.subnet_id
  client_security_groups = var.client_security_groups
  program                = var.program
  secrets                = var.secrets
}
