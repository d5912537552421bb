import lakeward from './index.cjs';

export const { FirehoseSender, HttpSender, LakewardHook } = lakeward;
export default lakeward;
