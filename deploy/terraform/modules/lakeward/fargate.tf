# One task of ECS on Fargate, with the journal on EFS.
#
# EFS because a task's own disk ends with the task, and so does an EBS volume
# that a service manages. It costs a few milliseconds for every fsync, and the
# lock of a task that died without a word holds for as long as NFS lets it, up
# to a minute or two. Where that is too slow, take compute = "ec2".

resource "aws_efs_file_system" "journal" {
  # checkov:skip=CKV_AWS_184:a key of your own if kms_key_arn is given
  # checkov:skip=CKV2_AWS_18:an older state must never be started again: docs/deploy.md
  count = local.fargate ? 1 : 0

  encrypted       = true
  kms_key_id      = var.kms_key_arn
  throughput_mode = "elastic"
  tags            = merge(local.tags, { Name = "${var.name}-journal" })

  lifecycle {
    # Records that are acknowledged and not yet delivered lie only here.
    prevent_destroy = true
  }
}

resource "aws_security_group" "efs" {
  # checkov:skip=CKV2_AWS_5:it is attached to the mount target
  count = local.fargate ? 1 : 0

  name_prefix = "${var.name}-efs-"
  description = "The journal of Lakeward ${var.name}"
  vpc_id      = var.vpc_id
  tags        = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "efs" {
  count = local.fargate ? 1 : 0

  security_group_id            = aws_security_group.efs[0].id
  description                  = "NFS from the task"
  referenced_security_group_id = aws_security_group.service[0].id
  from_port                    = 2049
  to_port                      = 2049
  ip_protocol                  = "tcp"
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "efs" {
  count = local.fargate ? 1 : 0

  security_group_id            = aws_security_group.service[0].id
  description                  = "NFS to the journal"
  referenced_security_group_id = aws_security_group.efs[0].id
  from_port                    = 2049
  to_port                      = 2049
  ip_protocol                  = "tcp"
  tags                         = local.tags
}

resource "aws_efs_mount_target" "journal" {
  count = local.fargate ? 1 : 0

  file_system_id  = aws_efs_file_system.journal[0].id
  subnet_id       = var.subnet_id
  security_groups = [aws_security_group.efs[0].id]
}

# The image's user, so that the task needs no root.
resource "aws_efs_access_point" "journal" {
  count = local.fargate ? 1 : 0

  file_system_id = aws_efs_file_system.journal[0].id
  tags           = local.tags

  posix_user {
    uid = 65532
    gid = 65532
  }

  root_directory {
    path = "/lakeward"

    creation_info {
      owner_uid   = 65532
      owner_gid   = 65532
      permissions = "0700"
    }
  }
}

data "aws_iam_policy_document" "efs" {
  count = local.fargate ? 1 : 0

  statement {
    sid       = "Journal"
    actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    resources = [aws_efs_file_system.journal[0].arn]

    condition {
      test     = "StringEquals"
      variable = "elasticfilesystem:AccessPointArn"
      values   = [aws_efs_access_point.journal[0].arn]
    }
  }
}

resource "aws_iam_role_policy" "efs" {
  count = local.fargate ? 1 : 0

  name   = "journal"
  role   = aws_iam_role.service.id
  policy = data.aws_iam_policy_document.efs[0].json
}

# What ECS itself does for the task: the image, the log, the secrets.
resource "aws_iam_role" "execution" {
  count = local.fargate ? 1 : 0

  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = local.tags
}

resource "aws_iam_role_policy" "execution" {
  count = local.fargate ? 1 : 0

  name   = "host"
  role   = aws_iam_role.execution[0].id
  policy = data.aws_iam_policy_document.host[0].json
}

resource "aws_ecs_cluster" "service" {
  count = local.fargate ? 1 : 0

  name = var.name
  tags = local.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

locals {
  log_options = local.service ? {
    awslogs-group         = aws_cloudwatch_log_group.service[0].name
    awslogs-region        = local.region
    awslogs-stream-prefix = "lakeward"
  } : {}
}

resource "aws_ecs_task_definition" "service" {
  # checkov:skip=CKV_AWS_336:both containers have a read-only root
  count = local.fargate ? 1 : 0

  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory_mib
  task_role_arn            = aws_iam_role.service.arn
  execution_role_arn       = aws_iam_role.execution[0].arn
  tags                     = local.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = upper(var.architecture)
  }

  volume {
    name = "config"
  }

  volume {
    name = "journal"

    efs_volume_configuration {
      file_system_id     = aws_efs_file_system.journal[0].id
      transit_encryption = "ENABLED"

      authorization_config {
        access_point_id = aws_efs_access_point.journal[0].id
        iam             = "ENABLED"
      }
    }
  }

  container_definitions = jsonencode([
    {
      name                   = "config"
      image                  = var.init_image
      essential              = false
      readonlyRootFilesystem = true
      command                = ["sh", "-c", "printf %s \"$CONFIG\" | base64 -d > /etc/lakeward/lakeward.yaml"]
      environment            = [{ name = "CONFIG", value = base64encode(local.config) }]
      mountPoints            = [{ sourceVolume = "config", containerPath = "/etc/lakeward", readOnly = false }]
      logConfiguration       = { logDriver = "awslogs", options = local.log_options }
    },
    {
      name                   = "lakeward"
      image                  = var.image
      essential              = true
      user                   = "65532:65532"
      readonlyRootFilesystem = true
      dependsOn              = [{ containerName = "config", condition = "SUCCESS" }]
      # Longer than drain_grace and the 10 s for requests under way.
      stopTimeout  = 60
      portMappings = [{ containerPort = var.port, protocol = "tcp" }]
      environment = [
        for name, value in merge(local.environment, { LAKEWARD_LISTEN = "0.0.0.0:${var.port}" }) : { name = name, value = value }
      ]
      secrets = [for name, arn in var.secrets : { name = name, valueFrom = arn }]
      mountPoints = [
        { sourceVolume = "config", containerPath = "/etc/lakeward", readOnly = true },
        { sourceVolume = "journal", containerPath = "/var/lib/lakeward", readOnly = false },
      ]
      healthCheck = {
        command     = ["CMD", "/usr/bin/lakeward", "status", "-c", "/etc/lakeward/lakeward.yaml"]
        interval    = 30
        timeout     = 10
        retries     = 3
        startPeriod = 120
      }
      linuxParameters  = { capabilities = { drop = ["ALL"] }, initProcessEnabled = false }
      logConfiguration = { logDriver = "awslogs", options = local.log_options }
    },
  ])

  lifecycle {
    precondition {
      condition     = var.image != null
      error_message = "compute = \"fargate\" needs `image`."
    }
  }
}

resource "aws_ecs_service" "service" {
  count = local.fargate ? 1 : 0

  name             = var.name
  cluster          = aws_ecs_cluster.service[0].id
  task_definition  = aws_ecs_task_definition.service[0].arn
  launch_type      = "FARGATE"
  platform_version = "LATEST"
  propagate_tags   = "SERVICE"
  tags             = local.tags

  # Never two tasks on one journal: the old one stops before the new one
  # starts. The lock in the state directory refuses a second one all the same.
  desired_count                      = 1
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = [var.subnet_id]
    security_groups  = [aws_security_group.service[0].id]
    assign_public_ip = false
  }

  dynamic "load_balancer" {
    for_each = var.target_group_arns

    content {
      target_group_arn = load_balancer.value
      container_name   = "lakeward"
      container_port   = var.port
    }
  }

  depends_on = [aws_efs_mount_target.journal, aws_iam_role_policy.execution]
}
