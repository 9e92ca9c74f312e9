def test_x(cnn, student):
    print([e.accuracy for e in cnn.built.history],[e.accuracy for e in student.built.history])
    print([(e.training_accuracy, e.seconds) for e in student.built.history])
