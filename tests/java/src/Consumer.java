import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.UUID;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.RetrievalSpecificConfig;
import software.amazon.kinesis.retrieval.fanout.FanOutConfig;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A worker of the Kinesis Client Library that prints what it reads, until its input ends:
 * {@code Consumer KINESIS DYNAMODB STREAM APPLICATION polling|fan-out}.
 */
public final class Consumer {
    public static void main(String[] arguments) throws Exception {
        String stream = arguments[2];
        String application = arguments[3];
        KinesisAsyncClient kinesis = Producer.client(arguments[0]);
        DynamoDbAsyncClient dynamo = DynamoDbAsyncClient.builder()
            .endpointOverride(URI.create(arguments[1])).region(Region.US_EAST_1)
            .credentialsProvider(Producer.credentials()).build();
        CloudWatchAsyncClient cloudWatch = CloudWatchAsyncClient.builder()
            .endpointOverride(URI.create(arguments[1])).region(Region.US_EAST_1)
            .credentialsProvider(Producer.credentials()).build();
        var start = InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
        var configs = new ConfigsBuilder(new SingleStreamTracker(stream, start), application, kinesis, dynamo, cloudWatch,
            UUID.randomUUID().toString(), Printer::new);
        RetrievalSpecificConfig retrieval = arguments[4].equals("fan-out")
            ? new FanOutConfig(kinesis).streamName(stream).applicationName(application)
            : new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(200);
        Scheduler scheduler = new Scheduler(
            configs.checkpointConfig(),
            configs.coordinatorConfig().parentShardPollIntervalMillis(500).shardConsumerDispatchPollIntervalMillis(200),
            configs.leaseManagementConfig().shardSyncIntervalMillis(2_000).leasesRecoveryAuditorExecutionFrequencyMillis(2_000)
                .failoverTimeMillis(3_000),
            configs.lifecycleConfig(),
            configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
            configs.processorConfig(),
            configs.retrievalConfig().retrievalSpecificConfig(retrieval));
        Thread worker = new Thread(scheduler, "worker");
        worker.setDaemon(true);
        worker.start();
        System.in.readAllBytes();
        scheduler.startGracefulShutdown().get();
        System.out.println("stopped");
        System.exit(0);
    }

    /** Prints {@code record SHARD SEQUENCE SUBSEQUENCE KEY DATA} and checkpoints. */
    private static final class Printer implements ShardRecordProcessor {
        private String shard;

        @Override
        public void initialize(InitializationInput input) {
            shard = input.shardId();
            print("open " + shard + " " + input.extendedSequenceNumber().sequenceNumber());
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            for (KinesisClientRecord record : input.records()) {
                String data = StandardCharsets.UTF_8.decode(record.data()).toString().strip();
                print("record " + shard + " " + record.sequenceNumber() + " " + record.subSequenceNumber() + " "
                    + record.partitionKey() + " " + data);
            }
            try {
                input.checkpointer().checkpoint();
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        }

        @Override
        public void leaseLost(LeaseLostInput input) {
            print("lost " + shard);
        }

        @Override
        public void shardEnded(ShardEndedInput input) {
            try {
                input.checkpointer().checkpoint();
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
            print("ended " + shard);
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {
            try {
                input.checkpointer().checkpoint();
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        }

        private static void print(String line) {
            synchronized (System.out) {
                System.out.println(line);
                System.out.flush();
            }
        }
    }
}
