# Who may connect, and where the service may.

resource "aws_security_group" "service" {
  # checkov:skip=CKV2_AWS_5:it is attached to the instance or the task, whichever there is
  count = local.service ? 1 : 0

  name_prefix = "${var.name}-"
  description = "Lakeward ${var.name}"
  vpc_id      = var.vpc_id
  tags        = local.tags

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = var.vpc_id != null && var.subnet_id != null
      error_message = "A service needs vpc_id and subnet_id; `compute = \"none\"` makes bucket, role and catalog only."
    }
  }
}

resource "aws_vpc_security_group_ingress_rule" "cidr" {
  for_each = local.service ? toset(var.client_cidrs) : toset([])

  security_group_id = aws_security_group.service[0].id
  description       = "clients"
  cidr_ipv4         = each.value
  from_port         = var.port
  to_port           = var.port
  ip_protocol       = "tcp"
  tags              = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "group" {
  count = local.service ? length(var.client_security_groups) : 0

  security_group_id            = aws_security_group.service[0].id
  description                  = "clients"
  referenced_security_group_id = var.client_security_groups[count.index]
  from_port                    = var.port
  to_port                      = var.port
  ip_protocol                  = "tcp"
  tags                         = local.tags
}

# AWS's services answer at addresses that change; all of them speak TLS.
resource "aws_vpc_security_group_egress_rule" "https" {
  count = local.service ? 1 : 0

  security_group_id = aws_security_group.service[0].id
  description       = "S3 and the other services"
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
  tags              = local.tags
}

resource "aws_cloudwatch_log_group" "service" {
  # checkov:skip=CKV_AWS_158:a key of your own if kms_key_arn is given
  # checkov:skip=CKV_AWS_338:a year unless the variable says otherwise
  count = local.service ? 1 : 0

  name              = "/lakeward/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = local.tags
}
