data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region

  ec2     = var.compute == "ec2"
  fargate = var.compute == "fargate"
  service = local.ec2 || local.fargate

  config = var.config != null ? var.config : file("${path.module}/../../../lakeward.yaml")

  environment = merge({
    AWS_REGION    = local.region
    LAKEWARD_LAKE = "s3://${aws_s3_bucket.lake.bucket}/${var.prefix}"
  }, var.environment)

  tags = merge({ Service = "lakeward", Name = var.name }, var.tags)
}
