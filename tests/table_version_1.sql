-- A table of layout 1: `vertebra profile squeezenet1_1` and `vertebra bench squeezenet1_1 --engine eager --quick`
-- as they wrote it, dumped as SQL.
BEGIN TRANSACTION;
CREATE TABLE measurements (
	run TEXT NOT NULL, 
	ordinal INTEGER NOT NULL, 
	model TEXT NOT NULL, 
	metric TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	origin TEXT NOT NULL, 
	weights TEXT, 
	low DOUBLE, 
	high DOUBLE, 
	samples BIGINT, 
	grade TEXT, 
	grade_reasons TEXT, 
	dataset TEXT, 
	split TEXT, 
	protocol TEXT, 
	input_size BIGINT, 
	batch_size BIGINT, 
	precision TEXT, 
	engine TEXT, 
	provider TEXT, 
	device TEXT, 
	layout TEXT, 
	threads BIGINT, 
	streams BIGINT, 
	scenario TEXT, 
	arrival_rate DOUBLE, 
	system TEXT, 
	source TEXT, 
	convention TEXT, 
	disputed TEXT, 
	versions TEXT, 
	measured_at TEXT, 
	PRIMARY KEY (run, ordinal), 
	FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "measurements" VALUES('8439d873f60666c566ad87ac806d0dafb846dca7deea25e37d7a617eb6969d50',0,'squeezenet1_1','params',1235496.0,'profiled',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:11+00:00');
INSERT INTO "measurements" VALUES('8439d873f60666c566ad87ac806d0dafb846dca7deea25e37d7a617eb6969d50',1,'squeezenet1_1','buffers',0.0,'profiled',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:11+00:00');
INSERT INTO "measurements" VALUES('8439d873f60666c566ad87ac806d0dafb846dca7deea25e37d7a617eb6969d50',2,'squeezenet1_1','weight_bytes',4941984.0,'profiled',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'float32',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:11+00:00');
INSERT INTO "measurements" VALUES('8439d873f60666c566ad87ac806d0dafb846dca7deea25e37d7a617eb6969d50',3,'squeezenet1_1','macs',349537280.0,'profiled',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,224,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:11+00:00');
INSERT INTO "measurements" VALUES('8439d873f60666c566ad87ac806d0dafb846dca7deea25e37d7a617eb6969d50',4,'squeezenet1_1','activations',2603624.0,'profiled',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,224,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:11+00:00');
INSERT INTO "measurements" VALUES('8439d873f60666c566ad87ac806d0dafb846dca7deea25e37d7a617eb6969d50',5,'squeezenet1_1','model_stat_params',1231552.0,'profiled',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,224,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:11+00:00');
INSERT INTO "measurements" VALUES('8439d873f60666c566ad87ac806d0dafb846dca7deea25e37d7a617eb6969d50',6,'squeezenet1_1','model_stat_operations',699443520.0,'profiled',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,224,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:11+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',0,'squeezenet1_1','latency',0.015043772,'benched',NULL,0.01494137,0.015234745,65,'B','["one process","the canary took 99 % longer in 2 of 4 blocks","outputs not compared: no reference","outliers kept: 5 mild, 7 severe"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',1,'squeezenet1_1','latency_p90',0.0187442,'benched',NULL,NULL,NULL,65,'B','["one process","the canary took 99 % longer in 2 of 4 blocks","outputs not compared: no reference","outliers kept: 5 mild, 7 severe"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',2,'squeezenet1_1','throughput',6.64726904927833288621e+01,'benched',NULL,6.56394314443727182589e+01,66.9282669527627,65,'B','["one process","the canary took 99 % longer in 2 of 4 blocks","outputs not compared: no reference","outliers kept: 5 mild, 7 severe"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',3,'squeezenet1_1','load_time',0.031134597,'benched',NULL,NULL,NULL,1,'B','["one process"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',4,'squeezenet1_1','first_inference',0.028794717,'benched',NULL,NULL,NULL,1,'B','["one process"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',5,'squeezenet1_1','memory_baseline',559738880.0,'benched',NULL,NULL,NULL,1,'B','["one process"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',6,'squeezenet1_1','memory_weights',7942144.0,'benched',NULL,NULL,NULL,1,'B','["one process"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',7,'squeezenet1_1','memory_activations',29868032.0,'benched',NULL,NULL,NULL,1,'B','["one process"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',8,'squeezenet1_1','memory_workspace',18886656.0,'benched',NULL,NULL,NULL,1,'B','["one process"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',9,'squeezenet1_1','memory_total',597549056.0,'benched',NULL,NULL,NULL,1,'B','["one process"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
INSERT INTO "measurements" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282',10,'squeezenet1_1','memory_net',37810176.0,'benched',NULL,NULL,NULL,1,'B','["one process"]',NULL,NULL,NULL,224,1,'float32','eager',NULL,'cpu','NCHW',2,NULL,'single-stream',NULL,'amd-epyc-2-cores-408406fa',NULL,NULL,NULL,'{"numpy":"2.4.6","python":"3.11.7","torch":"2.15.0","vertebra":"0.1.0"}','2026-11-29T21:41:19+00:00');
CREATE TABLE meta (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('product','vertebra measurements');
INSERT INTO "meta" VALUES('schema_version','1');
CREATE TABLE runs (
	id TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	system TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('8439d873f60666c566ad87ac806d0dafb846dca7deea25e37d7a617eb6969d50','2026-11-29T21:41:11.797514+00:00',NULL);
INSERT INTO "runs" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','2026-11-29T21:41:19.116118+00:00','amd-epyc-2-cores-408406fa');
CREATE TABLE samples (
	run TEXT NOT NULL, 
	name TEXT NOT NULL, 
	samples TEXT NOT NULL, 
	PRIMARY KEY (run, name), 
	FOREIGN KEY(run) REFERENCES runs (id)
);
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','latency','[0.016189322,0.019604186,0.014785419,0.014851998,0.01491416,0.014821813,0.015153024,0.014913589,0.014976442,0.015009341,0.015027097,0.015006367,0.015107968,0.015235957,0.015164401,0.015496543,0.015234745,0.015077161,0.015537985,0.01521814,0.014856985,0.015502843,0.015235557,0.015020728,0.016907036,0.016727219,0.01659945,0.015380081,0.014733061,0.019203993,0.01497489,0.014717197,0.014668776,0.015740546,0.014577831,0.015127846,0.015191442,0.01678158,0.014876264,0.014937054,0.014821212,0.014143256,0.015899922,0.015441412,0.015043772,0.015036611,0.014931356,0.015469864,0.014768364,0.01494137,0.019245534,0.01913472,0.01899961,0.0187442,0.023977882,0.017033794,0.016014211,0.014847131,0.014844647,0.014702867,0.014868031,0.014660984,0.014659913,0.014782435,0.014746662]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','latency.count','[17.0,16.0,17.0,15.0]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','latency.process','[0.0,0.0,0.0,0.0]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','latency.block','[0.0,1.0,2.0,3.0]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','latency.started','[1795988477.7436519,1795988478.068356,1795988478.385566,1795988478.7114952]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','canary','[0.004461327,0.004529558,0.007986915,0.010016471]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','surroundings.wall_s','[0.3194461640014197,0.3084634949991596,0.3147087380002631,0.2985490769988246]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','surroundings.others_cpu','[0.0,0.01612903225175309,0.0,0.016949152541135427]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','surroundings.steal','[0.0,0.0,0.0,0.0]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','surroundings.pressure','[0.010984636519838747,0.021409340512627426,0.008261607276376039,0.024357804327958078]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','surroundings.throttled_s','[0.0,0.0,0.0,0.0]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','surroundings.load','[0.87,0.87,0.87,0.87]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','idle.cpu','[0.0]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','harness.cpu','[0.006371900192225231]');
INSERT INTO "samples" VALUES('7394356eaacf4e2b08849381c25d2c736f378a64a15fba5fbaf40b77ab118282','seed','[0.0]');
CREATE TABLE systems (
	id TEXT NOT NULL, 
	description TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "systems" VALUES('amd-epyc-2-cores-408406fa','{"architecture":"x86_64","core_quota":null,"cpu":"AMD EPYC","features":["avx","fma","f16c","avx2","avx512f","avx512_vnni","avx512_bf16"],"gpus":[],"id":"amd-epyc-2-cores-408406fa","kernel":"Linux 6.18.44-fc-v669","logical_cores":2,"memory_bytes":25276502016,"os":"Debian GNU/Linux 12 (bookworm)","physical_cores":2,"python":"CPython 3.11.7","usable_cores":2,"virtual":"virtual machine, container"}');
COMMIT;
