# The role of the service, and exactly what Lakeward does with it.

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [local.fargate ? "ecs-tasks.amazonaws.com" : "ec2.amazonaws.com"]
    }

    dynamic "condition" {
      for_each = local.fargate ? [1] : []

      content {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account]
      }
    }
  }
}

resource "aws_iam_role" "service" {
  name               = var.name
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = local.tags
}

locals {
  objects      = "${aws_s3_bucket.lake.arn}/${var.prefix}"
  glue         = "arn:${local.partition}:glue:${local.region}:${local.account}"
  secret_arns  = [for arn in values(var.secrets) : arn if can(regex(":secretsmanager:", arn))]
  ssm_arns     = [for arn in values(var.secrets) : arn if can(regex(":ssm:", arn))]
  kms_services = ["s3", "secretsmanager", "ssm"]
}

data "aws_iam_policy_document" "lake" {
  # Put is create-only in the code (If-None-Match: *); get is what audit, query
  # and the look before a retry do. There is no delete: Lakeward deletes nothing.
  statement {
    sid       = "Objects"
    actions   = ["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"]
    resources = ["${local.objects}*"]
  }

  # `lakeward check --connect` writes one small object and takes it away again.
  statement {
    sid       = "Probe"
    actions   = ["s3:DeleteObject"]
    resources = ["${local.objects}.lakeward-probe/*"]
  }

  # Of the whole bucket: without it, or with a condition on s3:prefix, the
  # question whether an object exists is answered with 403 instead of 404.
  statement {
    sid       = "Names"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.lake.arn]
  }

  # Not glue:CreateDatabase: the database is made here.
  dynamic "statement" {
    for_each = var.glue_database != null ? [1] : []

    content {
      sid = "Catalog"
      actions = [
        "glue:GetTable",
        "glue:CreateTable",
        "glue:UpdateTable",
        "glue:GetPartitions",
        "glue:BatchCreatePartition",
        "glue:BatchGetPartition",
        "glue:BatchUpdatePartition",
      ]
      resources = [
        "${local.glue}:catalog",
        "${local.glue}:database/${var.glue_database}",
        "${local.glue}:table/${var.glue_database}/*",
      ]
    }
  }

  dynamic "statement" {
    for_each = length(var.kinesis_stream_arns) > 0 ? [1] : []

    content {
      sid = "Streams"
      actions = [
        "kinesis:ListShards",
        "kinesis:GetShardIterator",
        "kinesis:GetRecords",
      ]
      resources = var.kinesis_stream_arns
    }
  }

  dynamic "statement" {
    for_each = aws_dynamodb_table.leases[*].arn

    content {
      sid = "Leases"
      actions = [
        "dynamodb:DescribeTable",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
        "dynamodb:DeleteItem",
        "dynamodb:Scan",
      ]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = length(var.function_arns) > 0 ? [1] : []

    content {
      sid       = "Functions"
      actions   = ["lambda:InvokeFunction"]
      resources = flatten([for arn in var.function_arns : [arn, "${arn}:*"]])
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn != null ? [1] : []

    content {
      sid       = "Key"
      actions   = ["kms:GenerateDataKey", "kms:Decrypt"]
      resources = [var.kms_key_arn]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = [for service in concat(local.kms_services, ["dynamodb", "kinesis"]) : "${service}.${local.region}.amazonaws.com"]
      }
    }
  }
}

resource "aws_iam_role_policy" "lake" {
  name   = "lake"
  role   = aws_iam_role.service.id
  policy = data.aws_iam_policy_document.lake.json
}

# Who fetches the secrets and writes the log: the instance itself, or ECS on
# behalf of the task.
data "aws_iam_policy_document" "host" {
  count = local.service ? 1 : 0

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = ["${aws_cloudwatch_log_group.service[0].arn}:*"]
  }

  dynamic "statement" {
    for_each = length(local.secret_arns) > 0 ? [1] : []

    content {
      sid       = "Secrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = local.secret_arns
    }
  }

  dynamic "statement" {
    for_each = length(local.ssm_arns) > 0 ? [1] : []

    content {
      sid       = "Parameters"
      actions   = ["ssm:GetParameter", "ssm:GetParameters"]
      resources = local.ssm_arns
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn != null && length(var.secrets) > 0 ? [1] : []

    content {
      sid       = "SecretsKey"
      actions   = ["kms:Decrypt"]
      resources = [var.kms_key_arn]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = [for service in local.kms_services : "${service}.${local.region}.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = local.ec2 && var.program != null ? [1] : []

    content {
      sid       = "Program"
      actions   = ["s3:GetObject"]
      resources = ["arn:${local.partition}:s3:::${var.program.bucket}/${var.program.key}"]
    }
  }

  dynamic "statement" {
    for_each = var.image_repository_arn != null ? [1] : []

    content {
      sid       = "Image"
      actions   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = [var.image_repository_arn]
    }
  }

  # It knows no resources.
  dynamic "statement" {
    for_each = var.image_repository_arn != null ? [1] : []

    content {
      sid       = "Registry"
      actions   = ["ecr:GetAuthorizationToken"]
      resources = ["*"]
    }
  }
}
