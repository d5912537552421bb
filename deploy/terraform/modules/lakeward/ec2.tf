# One instance under systemd, with the journal on a volume of its own.
#
# The instance can be replaced at any time; the volume stays and moves. Two
# instances never run: an EBS volume attaches to one, and Terraform destroys
# the old attachment and instance before it makes the new ones.

data "aws_subnet" "service" {
  count = local.service ? 1 : 0
  id    = var.subnet_id
}

data "aws_ssm_parameter" "ami" {
  count = local.ec2 && var.ami_id == null ? 1 : 0
  name  = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${var.architecture}"
}

resource "aws_ebs_volume" "journal" {
  # checkov:skip=CKV_AWS_189:a key of your own if kms_key_arn is given
  # checkov:skip=CKV2_AWS_9:an older state must never be started again: docs/deploy.md
  # checkov:skip=CKV2_AWS_2:encrypted is set
  count = local.ec2 ? 1 : 0

  availability_zone = data.aws_subnet.service[0].availability_zone
  type              = "gp3"
  size              = var.volume_gib
  iops              = var.volume_iops
  encrypted         = true
  kms_key_id        = var.kms_key_arn
  snapshot_id       = var.volume_snapshot_id
  tags              = merge(local.tags, { Name = "${var.name}-journal" })

  lifecycle {
    # Records that are acknowledged and not yet delivered lie only here.
    prevent_destroy = true
    ignore_changes  = [snapshot_id]
  }
}

resource "aws_iam_instance_profile" "service" {
  count = local.ec2 ? 1 : 0

  name = var.name
  role = aws_iam_role.service.name
  tags = local.tags
}

resource "aws_iam_role_policy" "host" {
  count = local.ec2 ? 1 : 0

  name   = "host"
  role   = aws_iam_role.service.id
  policy = data.aws_iam_policy_document.host[0].json
}

resource "aws_instance" "service" {
  # checkov:skip=CKV_AWS_126:the service has metrics of its own at /metrics
  # checkov:skip=CKV2_AWS_41:it has a role
  count = local.ec2 ? 1 : 0

  ami                         = var.ami_id != null ? var.ami_id : data.aws_ssm_parameter.ami[0].insecure_value
  instance_type               = var.instance_type
  subnet_id                   = var.subnet_id
  vpc_security_group_ids      = [aws_security_group.service[0].id]
  iam_instance_profile        = aws_iam_instance_profile.service[0].name
  ebs_optimized               = true
  associate_public_ip_address = false
  user_data_replace_on_change = true
  tags                        = local.tags

  user_data_base64 = base64gzip(templatefile("${path.module}/user-data.sh.tftpl", {
    config      = base64encode(local.config)
    environment = base64encode(join("", [for name, value in merge(local.environment, { LAKEWARD_LISTEN = "0.0.0.0:${var.port}" }) : "${name}=${jsonencode(value)}\n"]))
    unit        = base64encode(file("${path.module}/../../../systemd/lakeward.service"))
    secrets     = var.secrets
    program     = var.program != null ? var.program : { bucket = "", key = "", sha256 = "" }
    region      = local.region
    volume      = aws_ebs_volume.journal[0].id
    log_group   = aws_cloudwatch_log_group.service[0].name
  }))

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    encrypted   = true
    kms_key_id  = var.kms_key_arn
    volume_type = "gp3"
  }

  lifecycle {
    # A newer image is taken when you say so (terraform apply -replace=…).
    ignore_changes = [ami]

    precondition {
      condition     = var.program != null
      error_message = "compute = \"ec2\" needs `program`: where in S3 the lakeward program lies, and its SHA-256."
    }
  }
}

resource "aws_volume_attachment" "journal" {
  count = local.ec2 ? 1 : 0

  device_name = "/dev/sdf"
  volume_id   = aws_ebs_volume.journal[0].id
  instance_id = aws_instance.service[0].id
  # The file system is unmounted by a clean stop before the volume leaves.
  stop_instance_before_detaching = true
}

resource "aws_lb_target_group_attachment" "service" {
  count = local.ec2 ? length(var.target_group_arns) : 0

  target_group_arn = var.target_group_arns[count.index]
  target_id        = aws_instance.service[0].id
  port             = var.port
}
