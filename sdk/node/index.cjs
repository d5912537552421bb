'use strict';

const { FirehoseSender } = require('./lib/firehoseSender');
const { HttpSender } = require('./lib/httpSender');
const { LakewardHook } = require('./lib/hook');

module.exports = { FirehoseSender, HttpSender, LakewardHook };
